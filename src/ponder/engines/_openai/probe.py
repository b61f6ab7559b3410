"""Tries whether a server honours what it is sent: seed, temperature, log-probabilities; a few short questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ponder.core.types import Completion, Finish, Message, Sampling
from ponder.engines._openai.asks import Ask, asks_for
from ponder.engines._openai.served import Served

QUESTION = "Write six random words, separated by spaces. Write nothing else."
NEW_TOKENS = 48
KIND = "probe"


def probes(served: Served) -> list[Ask]:
    """Two questions under one seed, one under another, and one without chance under each of two seeds."""
    settings = {"one": (1, 1.0), "again": (1, 1.0), "other": (2, 1.0), "cold": (1, 0.0), "cold other": (2, 0.0)}
    found = []
    for name, (seed, temperature) in settings.items():
        sampling = Sampling(temperature=temperature, seed=seed, max_new_tokens=NEW_TOKENS)
        (ask,) = asks_for(served, [(Message(role="user", content=QUESTION),)], 1, [sampling])
        found.append(replace(ask, keys=(f"probe {name} {ask.keys[0]}",)))
    return found


def findings(
    served: Served, asks: Sequence[Ask], found: Mapping[str, Completion], say: Callable[[str, str], None]
) -> dict[str, str]:
    """`honoured`, `ignored` or `unclear` for each setting; what is ignored is said.

    Equal texts under different seeds may be chance, and different texts under one may be rounding, so `ignored` is a
    finding about these few answers.
    """
    one, again, other, cold, cold_other = (found[ask.keys[0]] for ask in asks)
    drawn = (one, again, other, cold, cold_other)
    if any(each.finish in (Finish.ERROR, Finish.REFUSED) for each in drawn):
        return {"seed": "unclear", "temperature": "unclear", "logprobs": "unclear"}
    texts = [each.text for each in drawn]
    known = {"seed": "honoured" if texts[0] == texts[1] != texts[2] else "ignored", "temperature": "honoured"}
    if texts[0] == texts[1] == texts[2]:
        known["seed"] = "unclear" if texts[0] == texts[3] else "ignored"
    if texts[3] != texts[4] or texts[0] == texts[2] == texts[3]:
        known["temperature"] = "ignored"
    known["logprobs"] = "honoured" if one.logprobs is not None else "ignored" if served.logprobs else "not asked"
    for name, finding in known.items():
        if finding == "ignored":
            say(f"probe {name}", f"the server seems to ignore {name}: five short answers say so")
    return known
