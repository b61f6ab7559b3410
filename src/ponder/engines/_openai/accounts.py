"""The account of one served model: purchases at their prices beside the caps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ponder.core.errors import ConfigurationError
from ponder.core.types import Caps, Completion, Usage
from ponder.engines._openai.purchases import Purchases, Totals
from ponder.engines._openai.served import Served
from ponder.measure.costs.prices import Price, PriceSheet, near_names, token_cost
from ponder.runs.caps import CapWatch


class Account:
    """Stores what is bought and counts it.

    Args:
        served: Whose prices count.
        folder: Of the journal of purchases; None keeps only sums.
        caps: What may be used up.
        sheet: Prices.

    Raises:
        ConfigurationError: If there is a cap on cost and the price is not known.
    """

    def __init__(self, served: Served, folder: Path | None, caps: Caps | None, sheet: PriceSheet) -> None:
        self.price = price_of(served, sheet)
        if caps is not None and caps.cost is not None:
            require_price(served, sheet)
        self.purchases = Purchases(folder)
        earlier = [token_cost(self.price, prompt, sampled) for prompt, sampled in self.purchases.unpriced]
        known = [cost for cost in (self.purchases.cost, *earlier) if cost is not None]
        self.caps = CapWatch(
            caps,
            cost=sum(known) if len(known) == len(earlier) + 1 else None,
            tokens=self.purchases.tokens,
            seconds=self.purchases.seconds,
            where="" if self.purchases.path is None else str(self.purchases.path),
        )
        self.caps.pause()

    @property
    def totals(self) -> Totals:
        """Of all attempts."""
        return self.purchases.totals(self.caps.seconds, self.caps.cost)

    def buy(self, keys: Iterable[str], completions: Iterable[Completion], usage: Usage) -> None:
        """Store answers; their cost is counted once they are stored."""
        cost = self._cost(usage)
        self.purchases.bought(keys, completions, usage, cost, self.caps.seconds)
        self.caps.spend(usage.prompt_tokens + usage.completion_tokens, cost)

    def waste(self, why: str, usage: Usage) -> None:
        """Store that something was paid for and gave nothing."""
        cost = self._cost(usage)
        self.purchases.wasted(why, usage, cost, self.caps.seconds)
        self.caps.spend(usage.prompt_tokens + usage.completion_tokens, cost)

    def _cost(self, usage: Usage) -> float | None:
        if usage.prompt_tokens == usage.completion_tokens == 0:
            return 0.0
        return token_cost(self.price, usage.prompt_tokens, usage.completion_tokens)


def price_of(served: Served, sheet: PriceSheet) -> Price | None:
    """The price of a served model; a server of this machine has none but what the user wrote down for it."""
    return (PriceSheet((), sheet.own) if served.loopback else sheet).of(served.model)


def require_price(served: Served, sheet: PriceSheet) -> None:
    """A cap on cost can be kept only where the price is known.

    Raises:
        ConfigurationError: If it is not; names models that have one.
    """
    if token_cost(price_of(served, sheet), 1, 1) is not None:
        return
    near = near_names(served.model, sheet.models, 3)
    hint = f" (there are prices for {', '.join(near)})" if near else ""
    raise ConfigurationError(
        f"a cap on cost needs the price of {served.model!r}, which is unknown{hint}",
        where=served.name,
        fix="write its price into a sheet and name it in PONDER_PRICES; or cap tokens instead (token_limit)",
    )
