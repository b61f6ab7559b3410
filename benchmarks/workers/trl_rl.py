"""Reinforcement learning by TRL's GRPOTrainer, one optimiser step a turn."""

from __future__ import annotations

import tempfile
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from benchmarks.workers.rl_case import Rewarder, problems_of
from benchmarks.workers.trl_loop import Gate, settings
from benchmarks.workers.turns import case
from ponder.core.chat import Chat


def main() -> None:
    """Train until there are no more turns."""
    plan = case()
    problems = problems_of(plan)
    by_prompt = {problem.prompt: problem for problem in problems}
    tokenizer = AutoTokenizer.from_pretrained(plan["model"])
    chat, rewarder = Chat(tokenizer), Rewarder(plan)
    gate = Gate()

    def reward(prompts: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
        gate.tokens += sum(map(len, completion_ids))
        asked = [by_prompt[messages[-1]["content"]] for messages in prompts]
        return [rewarder(problem, ids, chat) for problem, ids in zip(asked, completion_ids, strict=True)]

    rows = plan["problems"] * plan["samples"]
    batch = plan["batch"]
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            **settings(plan, folder),
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
            shuffle_dataset=False,
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
