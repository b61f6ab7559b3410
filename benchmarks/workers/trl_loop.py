"""What both of TRL's trainers share here: the gate between their steps, and settings that are nobody's choice."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from benchmarks.workers.turns import Turns


class Gate(TrainerCallback):
    """Holds the trainer between its steps; `tokens` counts what a step has worked on."""

    def __init__(self) -> None:
        self._turns = Turns("trl", "torch", "transformers", "accelerate")
        self.tokens = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait for the first turn; the first batch is fetched after this."""
        if not self._turns.begin():
            raise SystemExit

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Report the step and wait for the next."""
        self._turns.end(count=self.tokens)
        self.tokens = 0
        control.should_training_stop = not self._turns.begin()
        return control


def settings(plan: dict[str, Any], folder: str) -> dict[str, Any]:
    """Of a trainer's configuration: model, optimiser, precision, and nothing beside the work."""
    return {
        "output_dir": folder,
        "model_init_kwargs": {
            "dtype": "bfloat16" if plan["dtype"] == "bfloat16" else "float32",
            "attn_implementation": plan["attention"],
        },
        "bf16": plan["dtype"] != "float32",
        "use_cpu": True,
        "gradient_checkpointing": False,
        "learning_rate": plan["lr"],
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "max_steps": plan["steps"],
        "save_strategy": "no",
        "logging_steps": 10,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
    }
