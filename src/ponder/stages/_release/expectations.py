"""Whether an artefact expects the same next token as the trained model, along answers that both read alike."""

from __future__ import annotations

from collections.abc import Sequence

from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError, PonderError
from ponder.core.protocols import Runtime, Teacher
from ponder.core.types import Json, TopK, Trace
from ponder.measure.fidelity import fidelity
from ponder.measure.release import Bounds, Finding

TOP = 64
"""Tokens that are known at each place; a smaller vocabulary is known whole."""


def held_out(traces: Sequence[Trace], chat: Chat, tokens: int, positions: int | None) -> list[Trace]:
    """Traces with their token ids, as many as have about so many completion tokens together; others of no use left out.

    Args:
        traces: Of the trained model, on problems that it was not trained on.
        chat: Its chat format.
        tokens: Enough of them.
        positions: That the runtime can take; longer traces are left out.
    """
    found: list[Trace] = []
    total = 0
    for trace in traces:
        prompt, response = chat.prompt(trace.problem.messages), chat.response(trace.completion.text)
        if positions is not None and len(prompt) + len(response) > positions:
            continue
        completion = trace.completion.model_copy(update={"prompt_tokens": tuple(prompt), "tokens": tuple(response)})
        found.append(trace.model_copy(update={"completion": completion}))
        total += len(response)
        if total >= tokens:
            break
    return found


def expectation_finding(teacher: Teacher, runtime: Runtime, traces: Sequence[Trace], bounds: Bounds) -> Finding:
    """Divergence of the next-token distribution and agreement of the likeliest token.

    Args:
        teacher: The trained model.
        runtime: The artefact.
        traces: As `held_out` gives them.
        bounds: Of the gate.
    """
    sequences = [[*(trace.completion.prompt_tokens or ()), *(trace.completion.tokens or ())] for trace in traces]
    begins = [len(trace.completion.prompt_tokens or ()) for trace in traces]
    try:
        copies = runtime.top(sequences, begins, TOP)
    except ConfigurationError as error:  # it says that it cannot tell: then nothing is known, and that is said
        return Finding(name="divergence", passed=None, text=f"not to be seen in this runtime: {error.what}")
    except PonderError as error:
        return Finding(name="divergence", passed=False, text=f"the runtime failed at being asked: {error.what}")
    originals = [_from(expected, begin) for expected, begin in zip(teacher.top(traces, TOP), begins, strict=True)]
    found = fidelity(zip(originals, copies, strict=True))
    if found is None:
        return Finding(name="divergence", passed=None, text="there is no answer to compare along")
    facts: Json = {
        "tokens": found.tokens,
        "mean_nats": found.mean,
        "p99_nats": found.p99,
        "worst_nats": found.worst,
        "agreement": found.agreement,
    }
    passed = found.mean <= bounds.divergence and found.agreement >= bounds.agreement
    text = (
        f"{found.mean:.2g} nats from the trained model, and the same likeliest token at {100 * found.agreement:.2f} % "
        f"of {found.tokens:,} places"
    )
    return Finding(name="divergence", passed=passed, text=text, facts=facts)


def _from(expected: TopK, begin: int) -> TopK:
    return TopK(expected.ids[begin:], expected.logprobs[begin:], expected.tail[begin:])
