"""What a process of its own measures of one model, `python -m ponder.stages._release.measuring ARTEFACT PROMPTS`.

An artefact's engine is opened without the libraries of training, as where it is used: its memory is its own.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ponder.core.errors import ConfigurationError, PonderError
from ponder.core.plugins import load_plugin
from ponder.core.protocols import Sampler
from ponder.core.types import Json, Message, Messages, Sampling
from ponder.measure.resources import machine
from ponder.models.artefacts import artefact_engine

TOKENS = 128
"""Most of an answer."""
BATCH = 16
"""Prompts that are answered at once."""
SINGLE = 5
"""Prompts that are answered one by one."""


def measured(opened: Callable[[str], Sampler], model: str, prompts: Sequence[str]) -> Json:
    """Load, first token, single and batched speed, and memory.

    Args:
        opened: Opens the model.
        model: Its name or path.
        prompts: User turns; those of the batch are the last.
    """
    conversations: list[Messages] = [(Message(role="user", content=prompt),) for prompt in prompts]
    began = time.perf_counter()
    sampler = opened(model)
    sampler.generate(conversations[:1], 1, Sampling(temperature=0.0, max_new_tokens=2))  # what is made at first use
    loaded = time.perf_counter() - began
    try:
        first = sorted(_seconds(sampler, [each], 1)[0] for each in conversations[:SINGLE])
        alone = [_seconds(sampler, [each], TOKENS) for each in conversations[:SINGLE]]
        batched = _seconds(sampler, conversations[-BATCH:], TOKENS)
        memory = tree_memory_bytes(os.getpid())
    finally:
        getattr(sampler, "close", lambda: None)()
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


def run(opened: Callable[[str], Sampler]) -> None:
    """Print the figures of the model on the command line."""
    try:
        print(json.dumps(measured(opened, sys.argv[1], json.loads(sys.argv[2]))))
    except PonderError as failure:
        sys.exit(str(failure))


def _artefact(model: str) -> Sampler:
    engine = artefact_engine(Path(model))
    if engine is None:
        raise ConfigurationError("no engine here runs this artefact", where=model)
    return load_plugin("engines", engine)(Path(model))


if __name__ == "__main__":
    run(_artefact)
