"""Fine-tuning by Ponder: the loop of its `distill` stage, one optimiser step a turn."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.workers.sft_case import documents_of
from benchmarks.workers.turns import Turns, case
from ponder.backends.local import trainer_for
from ponder.learn.fit import FitBatch, fit
from ponder.learn.train import Optimisation
from ponder.models.load import load_model
from ponder.runs.log import Log
from ponder.runs.store import StageFolder
from ponder.stages.pretrain import encode_document


def main() -> None:
    """Train until there are no more turns."""
    plan = case()
    loaded = load_model(plan["model"])
    examples = [encode_document(loaded.chat, prompt, response, 0.0) for prompt, response in documents_of(plan)]
    optimisation = Optimisation(
        lr=plan["lr"], autocast=plan["autocast"], micro_batch_tokens=plan.get("micro_batch_tokens", 4096)
    )
    trainer = trainer_for(loaded, optimisation, plan["steps"])
    turns = Turns("ponder", "torch", "transformers")
    rows = plan["rows"]

    def examples_at(step: int) -> FitBatch:
        if step:
            turns.end(count=sum(len(e.tokens) for e in examples[(step - 1) * rows : step * rows]))
        if not turns.begin():
            raise SystemExit
        return FitBatch(examples[step * rows : (step + 1) * rows])

    with tempfile.TemporaryDirectory() as folder:
        fit(
            trainer, examples_at, steps=plan["steps"], folder=StageFolder(Path(folder)), log=Log("silent"),
            checkpoint_every=100, key="benchmark",
        )  # fmt: skip


main()
