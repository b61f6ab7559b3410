"""Tells a progress line what a sampler has done, and how fast."""

from __future__ import annotations

import time
from typing import Any

from ponder.core.protocols import Watch
from ponder.runs.log import Progress


def watcher(progress: Progress, offset: int, **told: Any) -> Watch:
    """A watch over one call of a sampler.

    Tokens per second are told as soon as a completion is finished: before, most of the time went into prompts.

    Args:
        progress: The line.
        offset: Completions that were there before the call.
        told: Further fields of the line.
    """
    started = time.monotonic()

    def watch(finished: int, tokens: int) -> None:
        rate = {"tokens_per_second": round(tokens / max(1e-9, time.monotonic() - started))} if finished else {}
        progress.update(offset + finished, **told, **rate)

    return watch
