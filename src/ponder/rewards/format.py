"""Pays for reasoning aloud in good form: exactly one thought, closed, then an answer (as DeepSeek-R1 did)."""

from __future__ import annotations

from ponder.core.answers import THINK_CLOSE, THINK_OPEN
from ponder.core.protocols import Reward
from ponder.core.types import Finish, Trace


def well_formed(trace: Trace) -> float:
    """1 when the response is one non-empty thought followed by an answer and nothing before it, else 0."""
    text = trace.completion.text
    if trace.completion.finish is not Finish.STOP or text.count(THINK_OPEN) != 1 or text.count(THINK_CLOSE) != 1:
        return 0.0
    before, _, rest = text.partition(THINK_OPEN)
    thinking, closing, answer = rest.partition(THINK_CLOSE)
    return float(not before.strip() and bool(closing) and bool(thinking.strip()) and bool(answer.strip()))


plugin: Reward = well_formed
