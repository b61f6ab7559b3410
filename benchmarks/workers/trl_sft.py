"""Fine-tuning by TRL's SFTTrainer, one optimiser step a turn."""

from __future__ import annotations

import tempfile
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from benchmarks.workers.sft_case import documents_of
from benchmarks.workers.turns import Turns, case


class Gate(TrainerCallback):
    """Holds the trainer between its steps; counts the tokens of the rows that a step reads."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.tokens = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait for the first turn."""
        if not self._turns.begin():
            raise SystemExit

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Report the step and wait for the next."""
        self._turns.end(count=self.tokens)
        self.tokens = 0
        control.should_training_stop = not self._turns.begin()
        return control


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
    gate = Gate(Turns("trl", "torch", "transformers", "accelerate"))
    packed = plan["packing"]
    weights = "bfloat16" if plan["dtype"] == "bfloat16" else "float32"
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            model_init_kwargs={"dtype": weights, "attn_implementation": plan["attention"]},
            per_device_train_batch_size=plan["batch"] if not packed else 1,
            gradient_accumulation_steps=plan["rows"] // plan["batch"],
            packing=packed,
            max_length=plan["batch"] * 128 if packed else 1024,
            completion_only_loss=True,
            learning_rate=plan["lr"],
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            max_steps=plan["steps"],
            bf16=plan["dtype"] != "float32",
            use_cpu=True,
            gradient_checkpointing=False,
            save_strategy="no",
            logging_steps=10,
            report_to="none",
            disable_tqdm=True,
            dataset_num_proc=None,
            seed=0,
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
