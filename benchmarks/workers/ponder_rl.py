"""Reinforcement learning by Ponder: the loop of its `reinforce` stage, one optimiser step a turn."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.workers.rl_case import SEED, Letters, problems_of
from benchmarks.workers.turns import Turns, case
from ponder.backends.local import trainer_for
from ponder.core.types import Sampling
from ponder.learn.fit import FitBatch, fit
from ponder.learn.rollout import rollout
from ponder.learn.train import Optimisation
from ponder.models.load import load_model
from ponder.objectives.dr_grpo import DrGRPO
from ponder.runs.log import Log
from ponder.runs.store import StageFolder
from ponder.stages._tasks import open_tasks, verifiers_of
from ponder.stages.reinforce import rollout_metrics


def main() -> None:
    """Train until there are no more turns."""
    plan = case()
    turns = Turns("ponder", "torch", "transformers")
    problems = problems_of(plan)
    loaded = load_model(plan["model"])
    optimisation = Optimisation(
        lr=plan["lr"], micro_batch_tokens=plan.get("micro_batch_tokens", 4096), autocast=plan.get("autocast", False)
    )
    objective = DrGRPO()
    trainer = trainer_for(loaded, optimisation, plan["steps"], objective.surrogate, 1.0)
    if plan["fixed"]:
        loaded.chat.stop_ids = frozenset()
    verifiers = verifiers_of(open_tasks(["skills"]))
    rewards: dict[str, Any] = {"letters": (Letters(), 1.0)} if plan["fixed"] else {}
    count = plan["problems"]
    tokens = 0

    def examples_at(step: int) -> FitBatch:
        nonlocal tokens
        if step:
            turns.end(count=tokens)
        if not turns.begin():
            raise SystemExit
        sampling = Sampling(temperature=1.0, max_new_tokens=plan["new_tokens"], seed=SEED + step)
        chosen = problems[step * count : (step + 1) * count]
        groups = rollout(trainer.sampler(), chosen, verifiers, rewards, plan["samples"], sampling)
        tokens = sum(len(trace.completion.tokens or ()) for group in groups for trace in group.traces)
        return FitBatch([e for group in groups for e in objective(group, None)], rollout_metrics(groups))

    with tempfile.TemporaryDirectory() as folder:
        fit(
            trainer,
            examples_at,
            steps=plan["steps"],
            folder=StageFolder(Path(folder)),
            log=Log("silent"),
            checkpoint_every=10,
            key="benchmark",
        )


main()
