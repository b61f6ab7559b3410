"""What a served model would cost, and whether it could be asked at all; it is never asked for a plan."""

from __future__ import annotations

import os
from urllib.parse import parse_qsl, urlsplit

from ponder.measure.costs.prices import Price, PriceSheet, near_names, token_cost
from ponder.stages._estimates.sources import SERVED
from ponder.stages._outlook import Bounds, Refusal

HOSTED = "https://api.openai.com/v1"
LOCAL = ("localhost", "127.0.0.1", "::1")


def address(name: str) -> tuple[str, str, dict[str, str]]:
    """(model, URL, options) of `openai:MODEL@URL?option=value`."""
    written, _, query = name.removeprefix(SERVED).partition("?")
    model, at, url = written.partition("@http")
    return model, f"http{url}" if at else os.environ.get("OPENAI_BASE_URL", "") or HOSTED, dict(parse_qsl(query))


def price_of_served(name: str, sheet: PriceSheet) -> Price | None:
    """A server of this machine has no price but what the user wrote down for it."""
    model, url, _ = address(name)
    return (PriceSheet((), sheet.own) if urlsplit(url).hostname in LOCAL else sheet).of(model)


def served_refusals(name: str, sheet: PriceSheet, cost_limit: float | None) -> list[Refusal]:
    """A key that is not set, and a price that a limit on cost needs."""
    model, url, options = address(name)
    found: list[Refusal] = []
    variable = options.get("key") or ("OPENAI_API_KEY" if url.startswith(HOSTED.removesuffix("/v1")) else "")
    if variable and not os.environ.get(variable, "").strip():
        found.append(
            Refusal(f"the environment variable {variable} is not set", "a served model", f"export {variable}=...")
        )
    if cost_limit is not None and token_cost(price_of_served(name, sheet), 1, 1) is None:
        near = near_names(model, sheet.models, 3)
        hint = f" (there are prices for {', '.join(near)})" if near else ""
        fix = "write its price into a sheet and name it in PONDER_PRICES; or set token_limit instead"
        found.append(Refusal(f"a limit on cost needs the price of {model!r}, which is unknown{hint}", fix=fix))
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
