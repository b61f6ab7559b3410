"""Ponder and its peers take turns: each side a process that stays, one turn after the other, medians of pairs."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import IO, Any

from benchmarks import machine
from benchmarks.environments import PONDER, python_of
from ponder.core.errors import PonderError
from ponder.core.types import Json

ROOT = Path(__file__).resolve().parent.parent
LOG_TAIL = 1500
"""Characters of a failed worker's log that are shown."""


@dataclass(frozen=True, slots=True)
class Side:
    """One program of a comparison."""

    name: str
    worker: str
    """Module under `benchmarks/workers/`."""
    peer: str = PONDER
    """Environment it runs in."""
    settings: Json = field(default_factory=dict)
    """What it may choose for itself, such as dtype and batch; shown with the result."""


class Worker:
    """A running side."""

    def __init__(self, side: Side, case: Mapping[str, Any]) -> None:
        """Start it; it loads while others do."""
        self.side = side
        self.versions: Json = {}
        self._log: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed in __exit__
        self._process = subprocess.Popen(
            [python_of(side.peer), "-m", f"benchmarks.workers.{side.worker}"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", **OFFLINE},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._write(json.dumps({**case, **side.settings}))

    def __enter__(self) -> Worker:
        """It may be loading still."""
        return self

    def wait_until_ready(self) -> None:
        """Hear that it has loaded, and with which versions."""
        self.versions = self._hear()["versions"]

    def turn(self) -> Json:
        """Let it work once."""
        self._write("go")
        return self._hear()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # whoever hears next learns why it has stopped
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _hear(self) -> Json:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._log.seek(0)
            raise PonderError(
                f"{self.side.name} stopped with exit code {self._process.returncode}: {self._log.read()[-LOG_TAIL:]}",
                where=f"benchmarks/workers/{self.side.worker}.py",
            )
        return json.loads(line)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """No more turns."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}


def compare(sides: Sequence[Side], case: Mapping[str, Any], pairs: int, warmup: int = 1) -> Json:
    """Run all sides in turns; the first side is Ponder's.

    Args:
        sides: Of which each takes one turn in every round.
        case: The workload, the same for all.
        pairs: Rounds that count.
        warmup: Rounds before them.

    Returns:
        Rates (tokens or items per second), memory, and the ratio of Ponder to each peer in every round. `ratio` is
        the median against the peer with the highest median rate.
    """
    reports: dict[str, list[Json]] = {side.name: [] for side in sides}
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(side, case)) for side in sides]
        for worker in workers:
            worker.wait_until_ready()
        for turn in range(warmup + pairs):
            for worker in workers[:: 1 if turn % 2 else -1]:  # who goes first changes
                report = worker.turn()
                report["rate"] = report["count"] / report["seconds"]
                print(f"  {worker.side.name}: {report['rate']:,.0f}/s", file=sys.stderr, flush=True)
                if turn >= warmup:
                    reports[worker.side.name].append(report)
        versions = {worker.side.name: worker.versions for worker in workers}
    return _result(sides, reports, versions)


def choices(name: str, worker: str, peer: str, settings: Sequence[Json]) -> list[Side]:
    """One peer with each of some settings; they stand in its name when there are several."""
    labels = [name if len(settings) == 1 else f"{name} {' '.join(map(str, choice.values()))}" for choice in settings]
    return [Side(label, worker, peer, choice) for label, choice in zip(labels, settings, strict=True)]


def compare_choices(own: Side, peers: Sequence[Side], case: Mapping[str, Any], pairs: int) -> Json:
    """Ponder beside one choice of a peer after the other, so that they do not crowd the memory; the best one counts."""
    results = [compare([own, peer], case, pairs) for peer in peers]
    best = max(results, key=lambda result: result["sides"][result["best_peer"]]["rate"])
    merged = {name: row for result in results for name, row in result["sides"].items()}
    ratios = {name: row for result in results for name, row in result["ratios"].items()}
    return {**best, "sides": {**merged, **best["sides"]}, "ratios": ratios}


def _result(sides: Sequence[Side], reports: Mapping[str, list[Json]], versions: Json) -> Json:
    rows = {
        side.name: {
            "settings": side.settings,
            "versions": versions[side.name],
            "rate": median(report["rate"] for report in reports[side.name]),
            "peak_bytes": max(report["peak_bytes"] for report in reports[side.name]),
            "turns": reports[side.name],
        }
        for side in sides
    }
    own, *peers = (side.name for side in sides)
    ratios = {
        peer: [mine["rate"] / theirs["rate"] for mine, theirs in zip(reports[own], reports[peer], strict=True)]
        for peer in peers
    }
    result: Json = {"sides": rows, "ratios": ratios}
    if peers:
        best = max(peers, key=lambda name: rows[name]["rate"])
        result |= {
            "best_peer": best,
            "ratio": median(ratios[best]),
            "ratio_range": [min(ratios[best]), max(ratios[best])],
            "memory_ratio": rows[own]["peak_bytes"] / rows[best]["peak_bytes"],
        }
    return result


def table(name: str, result: Json, unit: str) -> str:
    """A comparison as lines of text."""
    lines = [name]
    for side, row in result["sides"].items():
        settings = ", ".join(f"{key} {value}" for key, value in row["settings"].items())
        against = "".join(f"  {median(result['ratios'][side]):5.2f}x" if side in result["ratios"] else "")
        lines.append(
            f"  {side:24} {row['rate']:12,.1f} {unit}/s  {row['peak_bytes'] / 2**20:8,.0f} MiB{against}  {settings}"
        )
    if "ratio" in result:
        low, high = result["ratio_range"]
        lines.append(
            f"  ratio {result['ratio']:.2f} ({low:.2f} to {high:.2f}) over {result['best_peer']}, "
            f"memory {result['memory_ratio']:.2f}"
        )
    return "\n".join(lines)


def options(description: str | None, cases: Iterable[str], pairs: int = 5) -> argparse.ArgumentParser:
    """The options that all comparisons share."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    names = list(cases)
    parser.add_argument("--case", choices=names, action="append", help="a workload; all by default")
    parser.add_argument("--pairs", type=int, default=pairs, help="rounds that count")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    return parser


def run_cases(
    name: str,
    parser: argparse.ArgumentParser,
    cases: Iterable[str],
    measure: Callable[[str, argparse.Namespace, Path], Json],
    unit: str,
) -> int:
    """What every comparison's command does: measure the chosen workloads, print tables, write the file.

    Args:
        name: Of the benchmark.
        parser: Its options.
        cases: All workloads.
        measure: Measures one of them, given the options and a folder for models.
        unit: What is counted.

    Returns:
        The exit code.
    """
    asked = parser.parse_args()
    results: Json = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for case in asked.case or cases:
                results[case] = measure(case, asked, Path(folder))
                print(table(case, results[case], unit), flush=True)
    except PonderError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    publish(name, results, asked.json)
    return 0


def publish(name: str, results: Json, path: Path | None) -> None:
    """Write everything that was measured, with the machine."""
    command = " ".join(Path(word).name if os.sep in word else word for word in sys.argv[1:])  # nobody else's folders
    document = {"benchmark": name, "machine": machine.describe(), "command": command, "cases": results}
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
