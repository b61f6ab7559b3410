"""Tables of what `benchmarks/` measured, from the files in `docs/results/benchmarks/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "results" / "benchmarks"
UNITS = {"rl_step": "tokens/s", "sampling": "tokens/s", "finetune": "tokens/s", "evaluate": "problems/s"}


def ratios(name: str) -> str:
    """A comparison: Ponder beside every peer, the ratio against the best of them."""
    lines = [
        f"| workload | pairs | Ponder, {UNITS[name]} | peers, {UNITS[name]} | ratio to the best (range) | memory |",
        "|---|--:|--:|---|--:|--:|",
    ]
    for case, result in _cases(name):
        own, *peers = result["sides"].items()
        pairs = len(own[1]["turns"])
        rows = "; ".join(f"{_peer(label, row)} {row['rate']:,.0f}" for label, row in peers)
        low, high = result["ratio_range"]
        lines.append(
            f"| `{case}` | {pairs} | {own[1]['rate']:,.0f} | {rows} | "
            f"**{result['ratio']:.2f}** ({low:.2f} to {high:.2f}) | {result['memory_ratio']:.2f} |"
        )
    return "\n".join(lines)


def against(name: str) -> str:
    """The ratio of Ponder to every single peer, as medians over the pairs."""
    lines = ["| workload | peer | ratio (range) |", "|---|---|--:|"]
    for case, result in _cases(name):
        for peer, pairs in result["ratios"].items():
            ordered = sorted(pairs)
            lines.append(f"| `{case}` | {peer} | {_median(ordered):.2f} ({ordered[0]:.2f} to {ordered[-1]:.2f}) |")
    return "\n".join(lines)


def load() -> str:
    """Servers under load: every side of every case, and the ratio of Ponder's rate to it."""
    lines = [
        "| case | server | tokens/s | Ponder's to it (range) | seconds for an answer: median, 9 of 10 | memory (MiB) |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for case, result in _cases("serve_load"):
        for side, row in result["sides"].items():
            pairs = sorted(result["ratios"].get(side, []))
            ratio = f"{_median(pairs):.2f} ({pairs[0]:.2f} to {pairs[-1]:.2f})" if pairs else ""
            waits = f"{row['p50_seconds']:.2f}, {row['p90_seconds']:.2f}"
            memory = f"{row['peak_bytes'] / 2**20:,.0f}"
            lines.append(f"| `{case}` | {side} | {row['rate']:,.0f} | {ratio} | {waits} | {memory} |")
    return "\n".join(lines)


def limits() -> str:
    """Shares of the machine's limits."""
    cases = dict(_cases("limits"))
    found = cases.pop("limits")
    lines = [
        f"Measured in the same run: {found['bf16_flops'] / 1e9:,.0f} GFLOP/s of matrix products in bfloat16, "
        f"{found['fp32_flops'] / 1e9:,.0f} in float32, {found['copy_bytes_per_second'] / 1e9:,.1f} GB/s copied.",
        "",
        "| shape | training, tokens/s | of the limit | decoding, tokens/s | of the limit | which limit |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for shape, row in cases.items():
        trained, decoded = row["training"], row["decoding"]
        lines.append(
            f"| `{shape}` | {trained['tokens_per_second']:,.0f} | **{trained['share']:.0%}** | "
            f"{decoded['tokens_per_second']:,.0f} | **{decoded['share']:.0%}** | {decoded['bound']} |"
        )
    return "\n".join(lines)


def growth() -> str:
    """Ends and extremes of every axis."""
    lines = ["| axis | points | tokens/s at each | peak memory (MiB) at each |", "|---|---|---|---|"]
    for axis, points in _cases("growth"):
        places = ", ".join(f"{point['at']:,.0f}" for point in points)
        rates = ", ".join(f"{point['rate']:,.0f}" for point in points)
        memory = ", ".join(f"{point['peak_bytes'] / 2**20:,.0f}" for point in points)
        lines.append(f"| {axis} | {places} | {rates} | {memory} |")
    return "\n".join(lines)


def waiting() -> str:
    """Seconds until something is seen."""
    cases = dict(_cases("waiting"))
    lines = ["| command | to its first output (range) |", "|---|--:|"]
    for name, command in (("help", "ponder --help"), ("chat", "ponder chat pocket-teacher --prompt …")):
        turns = cases[name]["turns"]
        lines.append(f"| `{command}` | {cases[name]['seconds']:.2f} s ({min(turns):.2f} to {max(turns):.2f}) |")
    return "\n".join(lines)


def _cases(name: str) -> list[tuple[str, Any]]:
    """Workloads of all files of a benchmark, in the order of their names."""
    files = sorted(path for path in FOLDER.glob(f"{name}*.json"))
    return [case for path in files for case in json.loads(path.read_text(encoding="utf-8"))["cases"].items()]


def _peer(label: str, row: dict[str, Any]) -> str:
    chosen = ", ".join(f"{key} {value}" for key, value in row["settings"].items())
    return f"{label.split()[0]} ({chosen})" if chosen else label


def _median(ordered: list[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
