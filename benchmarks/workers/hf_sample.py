"""Sampling by transformers' `generate`: all sequences of the workload in batches, once a turn."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.workers.turns import case, take_turns


def main() -> None:
    """Load, then sample."""
    plan = case()
    model = AutoModelForCausalLM.from_pretrained(
        plan["model"], dtype=getattr(torch, plan["dtype"]), attn_implementation=plan["attention"]
    ).eval()
    rows = [ids for ids in plan["ids"] for _ in range(plan["samples"])]
    width, new = max(map(len, rows)), plan["new_tokens"]
    padded = torch.tensor([[0] * (width - len(ids)) + ids for ids in rows])
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in rows])

    def work() -> dict[str, Any]:
        count = 0
        for part, seen in zip(padded.split(plan["batch"]), mask.split(plan["batch"]), strict=True):
            out = model.generate(
                input_ids=part, attention_mask=seen, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                min_new_tokens=new, max_new_tokens=new, pad_token_id=0,
            )  # fmt: skip
            count += out[:, width:].numel()
        return {"count": count}

    take_turns(work, "transformers", "torch")


main()
