"""What the server has done, counted, in the text form that Prometheus reads."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0)
"""Upper ends of the classes of the histograms."""
RATE_SECONDS = 60.0
"""Tokens per second are those of the last minute."""
OUTCOMES = ("answered", "scored", "refused", "cancelled", "failed")
STATM = Path("/proc/self/statm")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Durations by class."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._counts = [0] * (len(SECONDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self._sum += seconds

    def lines(self, name: str, about: str) -> list[str]:
        """Cumulative counts, their sum and their number."""
        found, total = [f"# HELP {name} {about}", f"# TYPE {name} histogram"], 0
        for end, count in zip((*map(str, SECONDS), "+Inf"), self._counts, strict=True):
            total += count
            found.append(f'{name}_bucket{{le="{end}"}} {total}')
        return [*found, f"{name}_sum {self._sum:.6f}", f"{name}_count {total}"]


class Metrics:
    """Counters of one server; all of its calls come from the event loop's thread."""

    def __init__(self) -> None:
        """Everything is zero."""
        self.requests: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self.finishes: Counter[str] = Counter(dict.fromkeys(("stop", "length"), 0))
        self.responses: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter(dict.fromkeys(("prompt", "completion", "thinking"), 0))
        self.audit_lost = 0
        self.first_token, self.total = Histogram(), Histogram()
        self._recent: list[tuple[float, int]] = []

    def generated(self, tokens: int) -> None:
        """Tokens of an answer that has just ended."""
        now = time.monotonic()
        self._recent = [one for one in self._recent if one[0] > now - RATE_SECONDS]
        self._recent.append((now, tokens))

    def text(self, gauges: Mapping[str, tuple[float, str]]) -> str:
        """All of it; `gauges` are numbers of the moment, each with what it says."""
        lines: list[str] = []
        for name, about, counts, label in (
            ("ponder_requests_total", "Requests by how they ended.", self.requests, "outcome"),
            ("ponder_answers_total", "Samples by why they ended.", self.finishes, "finish_reason"),
            ("ponder_responses_total", "HTTP responses by status.", self.responses, "status"),
            ("ponder_tokens_total", "Tokens read and generated; thinking is part of completion.", self.tokens, "kind"),
        ):
            lines += [f"# HELP {name} {about}", f"# TYPE {name} counter"]
            lines += [f'{name}{{{label}="{value}"}} {count}' for value, count in sorted(counts.items())]
        lines += _single("ponder_audit_lost_total", "counter", self.audit_lost, "Lines that no audit log holds.")
        lines += self.first_token.lines("ponder_first_token_seconds", "From a request to its first text.")
        lines += self.total.lines("ponder_request_seconds", "From a request to the end of its answer.")
        now = time.monotonic()
        recent = sum(tokens for at, tokens in self._recent if at > now - RATE_SECONDS)
        lines += _single("ponder_tokens_per_second", "gauge", recent / RATE_SECONDS, "Generated in the last minute.")
        if (resident := resident_bytes()) is not None:
            lines += _single("ponder_resident_bytes", "gauge", resident, "Memory of the process.")
        for name, (value, about) in gauges.items():
            lines += _single(name, "gauge", value, about)
        return "\n".join(lines) + "\n"


def resident_bytes() -> int | None:
    """Memory of this process that is in use now; None where the system does not say."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _single(name: str, kind: str, value: float, about: str) -> list[str]:
    shown = f"{value:.6g}" if value < 1e6 else f"{value:.0f}"
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}", f"{name} {shown}"]
