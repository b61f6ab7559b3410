"""Reinforcement learning by TRL's GRPOTrainer, one optimiser step a turn."""

from __future__ import annotations

import tempfile
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.workers.rl_case import Rewarder, problems_of
from benchmarks.workers.turns import Turns, case
from ponder.core.chat import Chat


class Gate(TrainerCallback):
    """Holds the trainer between its steps."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.tokens = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Report the step and wait for the next."""
        self._turns.end(count=self.tokens)
        self.tokens = 0
        control.should_training_stop = not self._turns.begin()
        return control

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait for the first turn; the first batch is fetched after this."""
        if not self._turns.begin():
            raise SystemExit


def main() -> None:
    """Train until there are no more turns."""
    plan = case()
    problems = problems_of(plan)
    by_prompt = {problem.prompt: problem for problem in problems}
    tokenizer = AutoTokenizer.from_pretrained(plan["model"])
    chat, rewarder = Chat(tokenizer), Rewarder(plan)
    gate = Gate(Turns("trl", "torch", "transformers", "accelerate"))

    def reward(prompts: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
        gate.tokens += sum(map(len, completion_ids))
        asked = [by_prompt[messages[-1]["content"]] for messages in prompts]
        return [rewarder(problem, ids, chat) for problem, ids in zip(asked, completion_ids, strict=True)]

    rows = plan["problems"] * plan["samples"]
    batch = plan["batch"]
    weights = "bfloat16" if plan["dtype"] == "bfloat16" else "float32"
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            model_init_kwargs={"dtype": weights, "attn_implementation": plan["attention"]},
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=rows // batch,
            generation_batch_size=rows,
            num_generations=plan["samples"],
            max_completion_length=plan["new_tokens"],
            generation_kwargs={"min_new_tokens": plan["new_tokens"]} if plan["fixed"] else None,
            temperature=1.0,
            top_k=0,
            beta=0.0,
            loss_type="dr_grpo",
            scale_rewards="none",
            learning_rate=plan["lr"],
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            max_steps=plan["steps"],
            shuffle_dataset=False,
            bf16=plan["dtype"] != "float32",
            use_cpu=True,
            gradient_checkpointing=False,
            save_strategy="no",
            logging_steps=10,
            report_to="none",
            disable_tqdm=True,
            seed=0,
        )
        trainer = GRPOTrainer(
            model=plan["model"],
            reward_funcs=reward,
            args=config,
            train_dataset=Dataset.from_list(
                [{"prompt": [{"role": "user", "content": problem.prompt}]} for problem in problems]
            ),
            processing_class=tokenizer,
            callbacks=[gate],
        )
        trainer.train()


main()
