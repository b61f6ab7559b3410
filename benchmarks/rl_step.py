"""One step of reinforcement learning, sampling to update, against TRL's GRPOTrainer.

Same weights, prompts, sampling, reward, objective (Dr. GRPO) and optimiser. `natural` lets answers end; the other
workloads suppress EOS. TRL gets `TRL_SETTINGS`, chosen by `--tune` at `3m` and `natural-teacher`.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from benchmarks import shapes
from benchmarks.turns import Side, choices, compare_choices, options, run_cases
from ponder.core.types import Json

NATURAL: Json = {"problems": 32, "samples": 8, "new_tokens": 512, "fixed": False}
CASES: dict[str, Json] = {
    "natural-base": {**NATURAL, "model": "pocket-base"},
    "natural-teacher": {**NATURAL, "model": "pocket-teacher"},
    "3m": {"model": "3m", "problems": 8, "samples": 8, "new_tokens": 128, "fixed": True},
    "25m": {"model": "25m", "problems": 8, "samples": 8, "new_tokens": 128, "fixed": True},
    "smollm2-135m": {"model": "smollm2-135m", "problems": 4, "samples": 8, "new_tokens": 128, "fixed": True},
}
"""32 prompts x 8 for natural lengths; 64 completions of 128 tokens (32 at 135 M) for fixed ones."""
LR = 1e-6
"""So small that the policy, and with it the lengths, stays as it is."""


def trl_settings(case: Json) -> list[Json]:
    """What `--tune` tries: dtype (bf16 autocast over fp32 weights, or bf16 weights), attention, rows of a batch."""
    rows = case["problems"] * case["samples"]
    tried = [(dtype, "sdpa", rows) for dtype in ("float32", "autocast", "bfloat16")]
    tried += [("float32", "eager", rows), ("float32", "sdpa", rows // 4)]
    return [{"dtype": dtype, "attention": attention, "batch": batch} for dtype, attention, batch in tried]


TRL_SETTINGS: dict[str, list[Json]] = {
    name: [
        {"dtype": "bfloat16", "attention": "sdpa", "batch": batch}
        for batch in sorted({min(64, case["problems"] * case["samples"]), case["problems"] * case["samples"]})
    ]
    for name, case in CASES.items()
}
"""Fastest at `3m` and at `natural-teacher`; where the best batch was not clear, both are tried."""
PONDER_SETTINGS: Json = {"autocast": "auto"}


def measure(name: str, asked: Namespace, folder: Path) -> Json:
    """One workload."""
    case = dict(CASES[name])
    settings = trl_settings(case) if asked.tune else TRL_SETTINGS[name]
    plan = {**case, "model": str(shapes.make(case["model"], folder)), "steps": asked.pairs + 2, "lr": LR}
    own = Side("ponder", "ponder_rl", settings=PONDER_SETTINGS)
    peers = choices("trl", "trl_rl", "hf", settings)
    return {"workload": case, **compare_choices(own, peers, plan, asked.pairs)}


def main() -> int:
    """Measure the chosen workloads."""
    parser = options(__doc__, CASES)
    parser.add_argument("--tune", action="store_true", help="try all settings of TRL instead of the chosen one")
    return run_cases("rl_step", parser, CASES, measure, "completion tokens")


if __name__ == "__main__":
    sys.exit(main())
