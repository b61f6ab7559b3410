"""The process in which a `.pte` runs, and what it is asked."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch

from ponder.core.errors import ConfigurationError, PonderError, ResourceError
from ponder.models.executorch_config import ExecutorchConfig, executorch_python

WORKER = Path(__file__).with_name("worker.py")


class Program:
    """A program with one memory of keys and values: one sequence at a time.

    Args:
        folder: Of the artefact.
        config: As it was checked.
        threads: Of arithmetic.

    Raises:
        ResourceError: If there is no ExecuTorch here, or it cannot load the program.
    """

    def __init__(self, folder: Path, config: ExecutorchConfig, threads: int) -> None:
        """Start it and load the program."""
        self._vocabulary = config.vocabulary
        command = [executorch_python(), "-u", str(WORKER), str(folder / config.program)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | {"OMP_NUM_THREADS": str(threads)},
        )
        try:
            self._read()
        except PonderError as error:
            self.close()
            raise ResourceError(f"ExecuTorch cannot load this program: {error.what}", where=str(folder)) from error

    def logits(self, ids: Sequence[int], at: int, each: bool = False) -> torch.Tensor:
        """(1, V) behind the last of some tokens, the first of which stands at a position; or (T, V) behind each.

        Raises:
            PonderError: If the program fails.
        """
        process = self._alive()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"ids": list(ids), "at": at, "each": each}).encode() + b"\n")
            process.stdin.flush()
        except OSError as error:
            raise PonderError("the process of ExecuTorch has died") from error
        return self._read().reshape(-1, self._vocabulary)

    def close(self) -> None:
        """End the process; more than once is no error."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _alive(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ConfigurationError("this engine is closed")
        return self._process

    def _read(self) -> torch.Tensor:
        (count,) = struct.unpack("<i", self._exactly(4))
        if count < 0:
            raise PonderError(self._exactly(-count).decode(errors="replace"))
        return torch.frombuffer(bytearray(self._exactly(4 * count)), dtype=torch.float32) if count else torch.zeros(0)

    def _exactly(self, count: int) -> bytes:
        stream = self._alive().stdout
        assert stream is not None
        data = stream.read(count)
        if len(data) < count:
            raise PonderError("the process of ExecuTorch has died")
        return data
