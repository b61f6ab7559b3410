"""Two servers under load: Ponder's and llama.cpp's own, the same model, questions and threads.

Greedy answers of pocket-teacher to questions of the six skills, asked by 1, 8 and 32 clients that each wait for one
answer before they ask again, and never the same question twice. llama.cpp has a slot for every client, and the model
as f32 or as q8_0. In the cases named `gguf` Ponder's server has llama.cpp behind it, and serves the same q8_0 file.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from statistics import median

import torch

from benchmarks.turns import Side, compare_choices, options, run_cases
from ponder.core.types import Json
from ponder.exporters.gguf import Gguf
from ponder.models.load import resolve_model
from ponder.stages._tasks import draw_problems, open_tasks

MODEL = "pocket-teacher"
CASES: dict[str, Json] = {
    "clients-1": {"clients": 1, "requests": 24},
    "clients-8": {"clients": 8, "requests": 96},
    "clients-32": {"clients": 32, "requests": 192},
    "gguf-1": {"clients": 1, "requests": 24, "form": "q8_0"},
    "gguf-8": {"clients": 8, "requests": 96, "form": "q8_0"},
}
FORMS = ("f32", "q8_0")
MAX_TOKENS = 300
CONTEXT = 512
"""Of a slot of llama.cpp: prompt and answer."""


def measure(name: str, asked: Namespace, folder: Path) -> Json:
    """One number of clients."""
    case, threads = CASES[name], torch.get_num_threads()
    served = {"form": case["form"]} if "form" in case else {}
    forms = (case["form"],) if served else FORMS
    gguf = {form: str(_exported(form, folder)) for form in forms}
    problems = list(draw_problems(open_tasks(["skills"]), "test", case["requests"] * (asked.pairs + 1), 0))
    texts = [problem.messages[-1].content for problem in problems]
    plan = {**case, "model": MODEL, "gguf": gguf, "texts": texts, "max_tokens": MAX_TOKENS, "context": CONTEXT}
    own = Side("ponder", "serve_ponder", settings={"threads": threads, **served})
    peers = [Side(f"llama.cpp {form}", "serve_llama", "llama", {"threads": threads, "form": form}) for form in forms]
    result = compare_choices(own, peers, plan, asked.pairs)
    own_row = result["sides"]["ponder"]  # its server is a process of its own, and the clients are not meant
    own_row["peak_bytes"] = max(turn["server_bytes"] for turn in own_row["turns"])
    result["memory_ratio"] = own_row["peak_bytes"] / result["sides"][result["best_peer"]]["peak_bytes"]
    for row in result["sides"].values():
        for percentile in ("p50_seconds", "p90_seconds"):
            row[percentile] = median(turn[percentile] for turn in row["turns"])
    for side, row in result["sides"].items():
        print(f"  {side}: p50 {row['p50_seconds']:.3f} s, p90 {row['p90_seconds']:.3f} s", flush=True)
    return {"workload": {**case, "model": MODEL, "max_tokens": MAX_TOKENS}, **result}


def _exported(form: str, folder: Path) -> Path:
    out = folder / form
    out.mkdir(exist_ok=True)
    found = sorted(out.glob("*.gguf"))
    return found[0] if found else Gguf(form=form)(resolve_model(MODEL), out)


def main() -> int:
    """Measure the chosen numbers of clients."""
    return run_cases("serve_load", options(__doc__, CASES), CASES, measure, "tokens")


if __name__ == "__main__":
    sys.exit(main())
