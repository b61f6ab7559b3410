"""What a served model would cost, and whether it could be asked at all; it is never asked for a plan."""

from __future__ import annotations

from ponder.engines._openai.accounts import price_of, require_price
from ponder.engines._openai.keys import key_for, key_variable
from ponder.engines._openai.served import HOSTED, read_served
from ponder.measure.costs.prices import Price, PriceSheet, token_cost
from ponder.stages._estimates.sources import Refusals
from ponder.stages._outlook import Bounds


def price_of_served(name: str, sheet: PriceSheet) -> Price | None:
    """List price of `openai:MODEL@URL?option=value`.

    Raises:
        ConfigurationError: If the name cannot be read.
    """
    return price_of(read_served(name), sheet)


def served_refusals(name: str, sheet: PriceSheet, cost_limit: float | None) -> Refusals:
    """For what the engine would refuse to begin: its address, its key, and a price that a limit on cost needs."""
    found = Refusals()
    with found.collecting():
        served = read_served(name)
        with found.collecting():
            if not key_for(served) and served.url == HOSTED:
                variable = key_variable(served)
                found.add(f"the environment variable {variable} is not set", f"export {variable}=...", "a served model")
        if cost_limit is not None:
            require_price(served, sheet)
    return found


def tokens_money(price: Price | None, prompt: Bounds, sampled: Bounds) -> Bounds | None:
    """Of tokens at list price, none of them cached; None when it is not known."""
    costs = [
        token_cost(price, read, drawn)
        for read, drawn in zip(
            (prompt.low, prompt.expected, prompt.high), (sampled.low, sampled.expected, sampled.high), strict=True
        )
    ]
    low, expected, high = costs
    return None if low is None or expected is None or high is None else Bounds(low, expected, high)


def machine_money(price: Price | None, seconds: Bounds, watts: float | None) -> tuple[Bounds | None, str]:
    """(money, what for) of this machine's hours and electricity, as far as the user's sheet prices them."""
    if price is None:
        return None, ""
    each, covers = 0.0, []
    if price.per_hour is not None:
        each, covers = each + price.per_hour / 3600, [*covers, "machine hours"]
    if price.per_kwh is not None and watts is not None:
        each, covers = each + price.per_kwh * watts / 3.6e6, [*covers, "electricity"]
    return (seconds.times(each), ", ".join(covers)) if covers else (None, "")
