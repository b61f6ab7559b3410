"""Computes logits with ExecuTorch in an interpreter that has it; needs nothing of Ponder.

Reads one JSON object a line, `{"ids": [...], "at": 0, "each": false}`: tokens and the position of the first. Answers
with four bytes, the number of float32 that follow: the logits behind the last token, or behind each. A negative number
says how many bytes of an error message follow.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import Any, BinaryIO

import torch
from executorch.extension.llm.custom_ops import custom_ops  # type: ignore # noqa: F401 # registers operators
from executorch.extension.pybindings.portable_lib import _load_for_executorch  # type: ignore
from executorch.kernels import quantized  # type: ignore # noqa: F401 # registers operators


def main(program: str) -> None:
    """Serve one program until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # native code writes to standard output what is meant for people
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        module = _load_for_executorch(program)
    except RuntimeError as error:
        _refuse(answers, str(error))
        return
    _answer(answers, torch.zeros(0))
    for line in sys.stdin.buffer:
        ask = json.loads(line)
        try:
            _answer(answers, _logits(module, ask["ids"], ask["at"], ask["each"]))
        except RuntimeError as error:
            _refuse(answers, str(error))


def _logits(module: Any, ids: list[int], at: int, each: bool) -> torch.Tensor:
    """(V,) behind the last token, or (T, V) behind each."""
    if not each:
        return _forward(module, ids, at)
    return torch.stack([_forward(module, [token], at + place) for place, token in enumerate(ids)])


def _forward(module: Any, ids: list[int], at: int) -> torch.Tensor:
    (logits,) = module.forward((torch.tensor([ids]), torch.tensor([at])))
    return logits.reshape(-1, logits.shape[-1])[-1].float().clone()


def _answer(answers: BinaryIO, numbers: torch.Tensor) -> None:
    data = numbers.contiguous().numpy().tobytes()
    answers.write(struct.pack("<i", len(data) // 4) + data)
    answers.flush()


def _refuse(answers: BinaryIO, message: str) -> None:
    data = message.encode()[:2000] or b"failed"
    answers.write(struct.pack("<i", -len(data)) + data)
    answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
