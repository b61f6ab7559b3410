"""Evaluation by lm-evaluation-harness, hf back-end: all problems, once a turn."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import lm_eval
import yaml
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from benchmarks.workers.turns import case, take_turns


def main() -> None:
    """Load once, then evaluate."""
    plan = case()
    folder = Path(tempfile.mkdtemp())
    task = {
        "task": "bench_gsm8k",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": plan["data"]}},
        "output_type": "generate_until",
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer.split('#### ')[-1]}}",
        "generation_kwargs": {"until": ["<|im_end|>"], "do_sample": False, "max_gen_toks": plan["new_tokens"]},
        "filter_list": [
            {
                "name": "last-number",
                "filter": [
                    {"function": "regex", "regex_pattern": "(-?[0-9.,]+)", "group_select": -1},
                    {"function": "take_first"},
                ],
            }
        ],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "bench.yaml").write_text(yaml.safe_dump(task))
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    model = HFLM(pretrained=plan["model"], device="cpu", dtype=plan["dtype"], batch_size=plan["batch"])

    def work() -> dict[str, Any]:
        lm_eval.simple_evaluate(
            model=model, tasks=["bench_gsm8k"], task_manager=manager, limit=plan["problems"], apply_chat_template=True,
            bootstrap_iters=0, verbosity="ERROR",
        )  # fmt: skip
        return {"count": plan["problems"]}

    take_turns(work, "lm_eval", "torch", "transformers")


main()
