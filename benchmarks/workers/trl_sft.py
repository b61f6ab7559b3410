"""Fine-tuning by TRL's SFTTrainer, one optimiser step a turn."""

from __future__ import annotations

import tempfile
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

from benchmarks.workers.sft_case import documents_of
from benchmarks.workers.trl_loop import Gate, settings
from benchmarks.workers.turns import case


def main() -> None:
    """Train until there are no more turns."""
    plan = case()
    tokenizer = AutoTokenizer.from_pretrained(plan["model"])
    rows = []
    for prompt, response in documents_of(plan):
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        answer = [*tokenizer(response, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        rows.append({"input_ids": ids + answer, "completion_mask": [0] * len(ids) + [1] * len(answer)})
    gate = Gate()
    packed = plan["packing"]
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            **settings(plan, folder),
            per_device_train_batch_size=plan["batch"] if not packed else 1,
            gradient_accumulation_steps=plan["rows"] // plan["batch"],
            packing=packed,
            max_length=plan["batch"] * 128 if packed else 1024,
            completion_only_loss=True,
            dataset_num_proc=None,
        )
        trainer = SFTTrainer(
            model=plan["model"],
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[gate],
        )
        collate = trainer.data_collator

        def counted(batch: list[dict[str, Any]]) -> Any:
            gate.tokens += sum(len(row["input_ids"]) for row in batch)
            return collate(batch)

        trainer.data_collator = counted
        trainer.train()


main()
