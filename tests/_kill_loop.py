"""Run as a script: kills a training run at every file operation and at random moments, and resumes it.

The parent imports everything once and never computes; each attempt is a forked child, killed by SIGKILL, so
that no handler, no `finally` and no buffer can help it. Prints a digest of the final state after each story.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from _learn import random_tokens, text_example, tiny_model, trainer
from ponder.learn.fit import FitBatch, fit
from ponder.runs.log import Log
from ponder.runs.store import StageFolder

STEPS = 4
OPERATIONS = ("fsync", "replace", "rename")


def train(folder: Path) -> None:
    torch.set_num_threads(1)
    learner = trainer(tiny_model(layers=1), steps=STEPS, decay="cosine", warmup_steps=2)
    fit(
        learner,
        lambda step: FitBatch([text_example(random_tokens(n, 17 * step + n)) for n in (5, 12)]),
        steps=STEPS,
        folder=StageFolder(folder),
        log=Log.silent(),
        checkpoint_every=2,
        key="k",
    )


def die_at(count: int) -> None:
    """Kill this process at its `count`-th file operation, before it is done."""
    left = count

    def wrapped(operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args, **kwargs)

        return call

    for name in OPERATIONS:
        setattr(os, name, wrapped(getattr(os, name)))


def attempt(folder: Path, prepare: Callable[[], None], patience: float | None = None) -> bool:
    """Train in a child; True when it came to its end."""
    child = os.fork()
    if child == 0:
        prepare()
        try:
            train(folder)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if patience is not None:
        time.sleep(patience)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("an attempt failed")
    return os.WIFEXITED(status)


def digest(folder: Path) -> str:
    hasher = hashlib.sha256((folder / "metrics.jsonl").read_bytes())
    newest = max((folder / "checkpoints").glob("[0-9]*"))
    hasher.update((newest / "state.safetensors").read_bytes())
    return f"{newest.name} {hasher.hexdigest()}"


def main(root: Path) -> None:
    attempt(root / "calm", lambda: None)
    print(digest(root / "calm"))
    count, done = 0, False
    while not done:  # the n-th life dies at its n-th operation and leaves the rest to the next
        count += 1
        done = attempt(root / "operations", partial(die_at, count))
    print(digest(root / "operations"))
    rng = random.Random(0)
    for _ in range(4):  # lives of random length
        attempt(root / "moments", lambda: None, patience=rng.uniform(0.02, 0.4))
    attempt(root / "moments", lambda: None)
    print(digest(root / "moments"))
    print(f"lives {count}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
