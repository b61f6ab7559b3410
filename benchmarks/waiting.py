"""What a person waits for: `ponder --help`, and the first word of `ponder chat`; whole processes, cold imports."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

from benchmarks.turns import options, publish
from ponder.core.types import Json

CASES: dict[str, list[str]] = {
    "help": ["--help"],
    "chat": ["chat", "pocket-teacher", "--prompt", "What is 3 + 4?"],
}
HEAVY = ("torch", "transformers", "numpy", "pyarrow", "sympy")
"""Imports that `--help` must not pay for."""


def first_output(arguments: list[str]) -> float:
    """Seconds from starting the process to the first byte on its standard output."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "ponder", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        seconds = time.perf_counter() - begin
        process.stdout.read()
    return seconds


def heavy_imports() -> list[str]:
    """Which heavy modules the command line has loaded before it knows what to do."""
    code = f"import sys, ponder.cli; print(*[name for name in {HEAVY} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def main() -> None:
    """Measure both."""
    asked = options(__doc__, CASES).parse_args()
    results: Json = {"heavy_imports": heavy_imports()}
    for name in asked.case or CASES:
        seconds = [first_output(CASES[name]) for _ in range(asked.pairs + 1)][1:]
        results[name] = {"seconds": median(seconds), "turns": seconds}
        print(f"{name}: {median(seconds):.2f} s to the first output ({min(seconds):.2f} to {max(seconds):.2f})")
    print(f"heavy imports of the command line: {', '.join(results['heavy_imports']) or 'none'}")
    publish("waiting", results, asked.json)


if __name__ == "__main__":
    sys.exit(main())
