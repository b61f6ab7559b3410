"""What a request used up: its seconds, its share of the machine's energy, and money, each with its origin."""

from __future__ import annotations

from dataclasses import dataclass

from ponder.core.types import Json
from ponder.measure.costs.answers import money, price_of
from ponder.measure.costs.energy import Mark, Meter
from ponder.measure.costs.prices import PriceSheet
from ponder.runs.ledger import energy_total


@dataclass(frozen=True, slots=True)
class Start:
    """The machine's counters when a request came."""

    mark: Mark
    tokens: int
    """That the server had generated in all."""


class Purse:
    """Measures what requests use up.

    The machine's energy is measured as a whole. A request is given the part that its tokens are of all those that were
    finished while it ran, so that its number is an estimate as soon as it was not alone.

    Args:
        name: Of the model, for its price.
        meter: Of the machine.
        sheet: Of prices; only what the user gave counts.
    """

    def __init__(self, name: str, meter: Meter, sheet: PriceSheet) -> None:
        """Nothing is spent yet."""
        self._meter = meter
        self._price, self._machine = price_of(sheet, name), sheet.machine
        self._tokens = 0

    def open(self) -> Start:
        """A request comes."""
        return Start(self._meter.mark(), self._tokens)

    def spent(self, start: Start, prompt_tokens: int, tokens: int) -> Json:
        """What a request used that has just ended; what is not known is null.

        Args:
            start: When it came.
            prompt_tokens: That it had.
            tokens: That were generated for it.
        """
        used = self._meter.since(start.mark)
        self._tokens += tokens
        all_tokens = self._tokens - start.tokens
        total = energy_total([(used.energy, used.seconds)])
        share = tokens / all_tokens if all_tokens else 1.0
        joules = None if total["joules"] is None else total["joules"] * share
        origin = None if joules is None else total["energy_origin"] if share == 1.0 else "estimated"
        row = {"seconds": used.seconds * share, "joules": joules, "energy_origin": origin}
        paid = money(row | {"prompt_tokens": prompt_tokens, "tokens": tokens}, self._price, self._machine)
        return {
            "seconds": used.seconds,
            "energy_joules": joules,
            "energy_origin": origin,
            "cost": paid["money"],
            "currency": paid["currency"],
            "cost_origin": paid["money_origin"],
        }
