"""Run as a script: buys in forked children that are killed at writes, in the middle of writes, and at any moment.

Prints one line of JSON for each story: the digest of the answers, and the names of answers that the journal held
after each death. The parent imports everything once; each life is a fork killed by SIGKILL.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
from functools import partial
from pathlib import Path
from typing import Any

from _lives import die, live
from chaos_server import MODEL, user
from ponder.core.types import Completion, Sampling
from ponder.engines.openai import OpenAISampler

PROMPTS, SAMPLES = 7, 2


def buy(url: str, folder: Path) -> None:
    sampler = OpenAISampler(f"openai:{MODEL}@{url}?concurrency=4", purchases=folder, environment={})
    groups = sampler.generate([user(f"q{i}") for i in range(PROMPTS)], SAMPLES, Sampling(seed=3))
    (folder / "answers").write_text(digest(groups), encoding="utf-8")


def digest(groups: list[list[Completion]]) -> str:
    rows = [each.model_dump_json(exclude={"seconds"}) for group in groups for each in group]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def die_at(count: int, torn: bool) -> None:
    """Kill this process at its `count`-th write to a file, before it or in the middle of it."""
    left, write = count, os.write

    def dying(descriptor: int, data: Any) -> int:
        nonlocal left
        if bytes(data).startswith(b'{"kind"'):
            left -= 1
            if left == 0:
                if torn:
                    write(descriptor, bytes(data)[: len(data) * 2 // 3])
                die()
        return write(descriptor, data)

    os.write = dying  # type: ignore[assignment]


def held(folder: Path) -> list[str]:
    """Names of the answers that the journal holds."""
    path = folder / "purchases.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [key for line in lines for key in json.loads(line).get("keys", ())]


def tell(story: str, folder: Path, deaths: list[list[str]]) -> None:
    said = {"story": story, "digest": (folder / "answers").read_text(encoding="utf-8"), "held": held(folder)}
    print(json.dumps(said | {"deaths": deaths}), flush=True)


def main(url: str, root: Path) -> None:
    live(partial(buy, url, root / "calm"))
    tell("calm", root / "calm", [])
    for torn in (False, True):
        folder, deaths, done = root / f"writes-{torn}", [], False
        while not done:
            done = live(partial(buy, url, folder), partial(die_at, 1 + len(deaths) % 3, torn))
            deaths.append(held(folder))
        tell(f"writes, torn {torn}", folder, deaths)
    folder, deaths, rng = root / "moments", [], random.Random(1)
    for _ in range(6):
        live(partial(buy, url, folder), patience=rng.uniform(0.01, 0.15))
        deaths.append(held(folder))
    live(partial(buy, url, folder))
    tell("moments", folder, deaths)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
