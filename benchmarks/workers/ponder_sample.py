"""Sampling by Ponder's local engine: all sequences of the workload, once a turn."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.workers.turns import case, take_turns
from ponder.core.types import Message, Sampling
from ponder.engines.local import LocalSampler
from ponder.models.load import load_model


def main() -> None:
    """Load, then sample."""
    plan = case()
    loaded = load_model(plan["model"], getattr(torch, plan["dtype"]))
    loaded.chat.stop_ids = frozenset()
    sampler = LocalSampler(loaded.model, loaded.chat, budget_bytes=plan.get("budget_bytes"))
    prompts = [(Message(role="user", content=text),) for text in plan["texts"]]
    seeds = iter(range(10**6))

    def work() -> dict[str, Any]:
        sampling = Sampling(temperature=1.0, max_new_tokens=plan["new_tokens"], seed=next(seeds))
        groups = sampler.generate(prompts, plan["samples"], sampling)
        return {"count": sum(len(one.tokens or ()) for group in groups for one in group)}

    take_turns(work, "ponder", "torch", "transformers")


main()
