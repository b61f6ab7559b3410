"""How fast an artefact answers and what memory it takes, measured in a process of its own that is told its threads.

`python -m ponder.stages._release.speed MODEL PROMPTS` prints one JSON object. What the clock says on a busy machine is
worth little; nothing is judged by it unless a bound asks for it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ponder.backends.local import open_sampler
from ponder.core.errors import PonderError, ResourceError
from ponder.core.protocols import Runtime, Sampler
from ponder.core.types import Json, Message, Messages, Sampling
from ponder.measure.resources import machine

TOKENS = 128
"""Most of an answer."""
BATCH = 16
"""Prompts that are answered at once."""
SINGLE = 5
"""Prompts that are answered one by one."""
SECONDS = 300.0
"""After which a measurement is given up."""


def measured_speed(model: str, prompts: Sequence[str], threads: int) -> Json:
    """Figures of one model: load, time to first token, tokens per second single and batched, memory.

    Args:
        model: As for `ponder.backends.local.open_sampler`.
        prompts: User turns, of which the first are asked.
        threads: Of this engine's arithmetic.

    Raises:
        ResourceError: If the process fails or takes too long.
    """
    command = [sys.executable, "-m", "ponder.stages._release.speed", model, json.dumps(list(prompts[: BATCH + SINGLE]))]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PONDER_THREADS": str(threads)}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=True
        )
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired as error:
        raise ResourceError(f"the speed could not be measured within {SECONDS:.0f} s", where=model) from error
    except (subprocess.CalledProcessError, ValueError, IndexError) as error:
        said = getattr(error, "stderr", b"") or b""
        raise ResourceError(
            "the speed could not be measured", where=model, fix=said.decode(errors="replace").strip()[-500:]
        ) from error


def main(model: str, prompts: Sequence[str]) -> Json:
    """What the process of its own does."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    conversations: list[Messages] = [(Message(role="user", content=prompt),) for prompt in prompts]
    began = time.perf_counter()
    sampler = open_sampler(model)
    sampler.generate(conversations[:1], 1, Sampling(temperature=0.0, max_new_tokens=2))  # what is made at first use
    loaded = time.perf_counter() - began
    try:
        first = sorted(_seconds(sampler, [each], 1)[0] for each in conversations[:SINGLE])
        alone = [_seconds(sampler, [each], TOKENS) for each in conversations[:SINGLE]]
        batched = _seconds(sampler, conversations[-BATCH:], TOKENS)
        memory = tree_memory_bytes(os.getpid())
    finally:
        if isinstance(sampler, Runtime):
            sampler.close()
    return {
        "load_seconds": loaded,
        "first_token_seconds": first[len(first) // 2],
        "tokens_per_second": sum(tokens for _, tokens in alone) / sum(seconds for seconds, _ in alone),
        "tokens_per_second_batched": batched[1] / batched[0],
        "batch": min(BATCH, len(conversations)),
        "answers": len(alone),
        "memory_bytes": memory,
        "threads": int(os.environ.get("OMP_NUM_THREADS", "1")),
        "machine": machine(),
    }


def tree_memory_bytes(root: int) -> int:
    """Most memory that a process and its living descendants ever held resident, added up; 0 where nobody can tell."""
    parents: dict[int, int] = {}
    peaks: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text(errors="replace")
        except OSError:  # it has just ended
            continue
        parent, peak = re.search(r"^PPid:\s+(\d+)", text, re.M), re.search(r"^VmHWM:\s+(\d+) kB", text, re.M)
        parents[int(status.parent.name)] = int(parent[1]) if parent else 0
        peaks[int(status.parent.name)] = 1024 * int(peak[1]) if peak else 0
    family = {root}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(peaks.get(pid, 0) for pid in family)


def _seconds(sampler: Sampler, conversations: Sequence[Messages], tokens: int) -> tuple[float, int]:
    """Wall-clock seconds and generated tokens of greedy answers."""
    began = time.perf_counter()
    groups = sampler.generate(conversations, 1, Sampling(temperature=0.0, max_new_tokens=tokens))
    seconds = time.perf_counter() - began
    return seconds, sum(one.usage.completion_tokens for group in groups for one in group)


if __name__ == "__main__":
    try:
        print(json.dumps(main(sys.argv[1], json.loads(sys.argv[2]))))
    except PonderError as failure:
        sys.exit(str(failure))
