"""Adapters: training and sampling with one, against training every weight and against factors in modules of their own.

Ponder writes the change into the weights (`models/lora.py`). The usual way, modules that add s B (A x) beside a frozen
layer, makes no gradient of a weight and keeps no second copy of it, but neither the native kernels nor the sampler know
such layers. Same rows, rank 16 on all linear layers of the blocks; the first side is Ponder's adapter.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from benchmarks import shapes
from benchmarks.turns import Side, compare, options, run_cases
from ponder.core.types import Json

TRAIN: Json = {"rows": 64, "rank": 16}
SAMPLE: Json = {**TRAIN, "prompts": 16, "samples": 8, "new_tokens": 64}
CASES: dict[str, Json] = {
    "train pocket-teacher": {"model": "pocket-teacher", **TRAIN},
    "train 25m": {"model": "25m", **TRAIN},
    "train smollm2-135m": {"model": "smollm2-135m", **TRAIN, "rows": 16},
    "sample pocket-teacher": {"model": "pocket-teacher", **SAMPLE},
    "sample 25m": {"model": "25m", **SAMPLE},
}
DESIGNS = ("written", "full", "modules")


def measure(name: str, asked: Namespace, folder: Path) -> Json:
    """One workload."""
    case = CASES[name]
    plan = {**case, "model": str(shapes.make(case["model"], folder))}
    sides = [Side(d, "ponder_adapter", settings={"design": d, "autocast": asked.autocast}) for d in DESIGNS]
    return {"workload": case, **compare(sides, plan, asked.pairs)}


def main() -> int:
    """Measure the chosen workloads."""
    parser = options(__doc__, CASES, pairs=3)
    parser.add_argument("--autocast", action="store_true", help="products in bfloat16")
    return run_cases("adapters", parser, CASES, measure, "tokens")


if __name__ == "__main__":
    sys.exit(main())
