"""Puts the figures of one stage together: duration with its bounds, memory, disk, energy, money and refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ponder.stages._estimates.machine import capacity_refusals
from ponder.stages._estimates.served import machine_money
from ponder.stages._estimates.sources import Refusals
from ponder.stages._outlook import NOTHING, Bounds, Leaves
from ponder.stages._stage import Context, Estimate

ROW_OVERHEAD_BYTES = 300
"""Of a stored trace besides its texts."""
SEALED_SHARE = 1.25
"""A journal with its sealed form, which is compressed, by the journal alone."""
SMALL_FILES = 30_000
"""Bytes of a stage's own records."""


@dataclass(slots=True)
class Account:
    """Figures of a stage while they are found out."""

    rows: int = 0
    seconds: list[Bounds] = field(default_factory=list)
    memory_bytes: int = 0
    prompt: float = 0.0
    sampled: float = 0.0
    trained: float = 0.0
    disk_bytes: float = 0.0
    """Most at a time."""
    left_bytes: float = 0.0
    watts: list[float] = field(default_factory=list)
    token_money: list[tuple[Bounds | None, str]] = field(default_factory=list)
    """Of served models."""
    notes: list[str] = field(default_factory=list)
    refusals: Refusals = field(default_factory=Refusals)
    leaves: Leaves = NOTHING
    probed: bool = False

    def needs(self, memory_bytes: int) -> None:
        """What is held at the same time counts once: the most of all parts."""
        self.memory_bytes = max(self.memory_bytes, memory_bytes)

    def estimate(self, context: Context) -> Estimate:
        """The estimate, with what the machine lacks among its refusals."""
        duration = total(self.seconds)
        disk = int(max(self.disk_bytes, self.left_bytes)) + SMALL_FILES
        self.refusals += capacity_refusals(self.memory_bytes, disk, context.folder.path)
        watts = sum(self.watts) / len(self.watts) if self.watts else None
        money, currency, covers = self._money(context, duration, watts)
        return Estimate(
            rows=self.rows,
            tokens=round(self.sampled + self.trained),
            memory_bytes=self.memory_bytes,
            seconds=duration.expected,
            note="; ".join(dict.fromkeys(note for note in self.notes if note)),
            low_seconds=duration.low,
            high_seconds=duration.high,
            prompt_tokens=round(self.prompt),
            sampled_tokens=round(self.sampled),
            trained_tokens=round(self.trained),
            disk_bytes=disk,
            left_bytes=int(self.left_bytes) + SMALL_FILES,
            joules=None if watts is None else watts * duration.expected,
            money=money,
            currency=currency,
            money_covers=covers,
            refusals=tuple(dict.fromkeys(self.refusals)),
            leaves=self.leaves,
            probed=self.probed,
        )

    def _money(self, context: Context, duration: Bounds, watts: float | None) -> tuple[Bounds | None, str, str]:
        """Of served tokens, else of this machine; two currencies are never added."""
        own = context.outlook.sheet.machine
        hours, what = machine_money(own, duration, watts)
        if not self.token_money:
            return hours, "" if own is None or hours is None else own.currency, what
        amounts = [amount for amount, _ in self.token_money]
        currencies = {currency for _, currency in self.token_money}
        if None in amounts or len(currencies) > 1:
            return None, "", ""
        tokens = total([amount for amount in amounts if amount is not None])
        currency = currencies.pop()
        if hours is not None and own is not None and own.currency == currency:
            return total([tokens, hours]), currency, f"served tokens, {what}"
        return tokens, currency, "served tokens"


def total(parts: Sequence[Bounds]) -> Bounds:
    """Of independent parts: their widths add as squares, or all of it when there is one."""
    expected = sum(part.expected for part in parts)
    below = sum((part.expected - part.low) ** 2 for part in parts) ** 0.5
    above = sum((part.high - part.expected) ** 2 for part in parts) ** 0.5
    return Bounds(max(0.0, expected - below), expected, expected + above)


def traces_bytes(rows: int, prompt_characters: float, response_characters: float) -> float:
    """Of a journal of traces and its sealed form."""
    return SEALED_SHARE * rows * (ROW_OVERHEAD_BYTES + prompt_characters + response_characters)
