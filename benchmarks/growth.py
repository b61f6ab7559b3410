"""How speed and memory of sampling grow with each thing a user can choose, one at a time.

Every point is a process of its own, so that its peak memory is its own; `budget` shows that the memory for keys and
values stays under what is asked for, with the batch split instead of killed. `--plot FILE.svg` draws it (needs the
`bench` extra).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import shapes
from benchmarks.sampling import prompts
from benchmarks.turns import Side, compare, options, publish
from ponder.core.chat import Chat
from ponder.core.types import Json, Message
from ponder.models.load import load_tokenizer

BASE: Json = {"model": "3m", "prompts": 32, "prompt_tokens": 128, "samples": 8, "new_tokens": 128}
AXES: dict[str, list[Json]] = {
    "group size": [{"samples": n, "prompts": max(1, 256 // n)} for n in (1, 2, 4, 8, 16, 32, 64)],
    "prompt tokens": [{"prompt_tokens": n} for n in (32, 64, 128, 256, 512, 1024, 2048)],
    "new tokens": [{"new_tokens": n, "prompts": 8} for n in (64, 128, 256, 512, 1024, 2048)],
    "batch": [{"samples": 1, "prompts": n} for n in (1, 4, 16, 64, 256, 1024)],
    "parameters": [{"model": name, "prompts": 8, "new_tokens": 64} for name in shapes.NAMES],
    "budget": [{"new_tokens": 512, "prompts": 32, "budget_bytes": n * 2**20} for n in (64, 256, 1024)],
}
LABELS = {"group size": "samples", "prompt tokens": "prompt_tokens", "new tokens": "new_tokens", "batch": "prompts"}


def measure(point: Json, folder: Path, turns: int) -> Json:
    """Rate and peak memory of one point."""
    case = {**BASE, **point}
    model = shapes.make(case["model"], folder)
    chat = Chat(load_tokenizer(model))
    texts = prompts(chat, case["prompts"], case["prompt_tokens"])
    tokens = len(chat.prompt((Message(role="user", content=texts[0]),)))
    side = Side("ponder", "ponder_sample", settings={"dtype": "bfloat16"})
    result = compare([side], {**case, "model": str(model), "texts": texts}, turns)["sides"]["ponder"]
    return {**case, "prompt_tokens": tokens, "rate": result["rate"], "peak_bytes": result["peak_bytes"]}


def value(axis: str, point: Json) -> float:
    """Where a point stands on its axis."""
    if axis == "parameters":
        return float(shapes.PARAMETERS[point["model"]])
    return float(point["budget_bytes"] / 2**20 if axis == "budget" else point[LABELS[axis]])


def plot(results: Json, path: Path) -> None:
    """Tokens per second and peak memory along every axis."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(2, len(results), figsize=(3 * len(results), 5), squeeze=False, sharey="row")
    for column, (axis, points) in enumerate(results.items()):
        places = [point["at"] for point in points]
        for row, (label, heights) in enumerate(_heights(points)):
            panel: Any = grid[row][column]
            panel.plot(places, heights, marker="o")
            panel.set_xscale("log", base=2)
            panel.set_yscale("log")
            panel.set_xlabel(f"{axis} (MiB)" if axis == "budget" else axis)
            panel.grid(alpha=0.3)
            if column == 0:
                panel.set_ylabel(label)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def _heights(points: list[Json]) -> list[tuple[str, list[float]]]:
    return [
        ("tokens per second", [point["rate"] for point in points]),
        ("peak memory (MiB)", [point["peak_bytes"] / 2**20 for point in points]),
    ]


def main() -> None:
    """Measure the chosen axes."""
    parser = options(__doc__, AXES, pairs=2)
    parser.add_argument("--plot", type=Path, help="write the plots to this SVG")
    asked = parser.parse_args()
    results: Json = {}
    with tempfile.TemporaryDirectory() as folder:
        for axis in asked.case or AXES:
            results[axis] = []
            for point in AXES[axis]:
                found = measure(point, Path(folder), asked.pairs)
                found["at"] = value(axis, found)
                results[axis].append(found)
                print(
                    f"{axis} {found['at']:,.0f}: {found['rate']:,.0f} tokens/s, {found['peak_bytes'] / 2**20:,.0f} MiB",
                    flush=True,
                )
    publish("growth", results, asked.json)
    if asked.plot:
        plot(results, asked.plot)


if __name__ == "__main__":
    sys.exit(main())
