"""Teachers that share the student's tokenizer: a model of this machine, several by task, and one asked beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Teacher
from ponder.core.types import FloatArray, TopK, Trace
from ponder.engines._expectations import PASS_TOKENS, Expectations, Pair

ANY_TASK = "*"


class LocalTeacher:
    """A model of this machine that says what it would have expected; see `ponder.core.protocols.Teacher`.

    Args:
        model: Loaded with Ponder's attention; its tokens are the student's.
        vocabulary: Size of the student's, where the two are padded to different sizes; tokens above it are in no
            distribution.
        max_tokens: Packed tokens of one pass.
    """

    def __init__(self, model: PreTrainedModel, vocabulary: int | None = None, max_tokens: int = PASS_TOKENS) -> None:
        """Try the model once."""
        self._expectations = Expectations(model.eval(), vocabulary, max_tokens)

    @torch.inference_mode()
    def logprobs(self, traces: Sequence[Trace]) -> list[FloatArray]:
        """See `Teacher.logprobs`; the prompt is NaN."""
        found = [np.full(_length(trace), np.nan, np.float32) for trace in traces]
        for place, start, everywhere in self._expectations.of(_pairs(traces)):
            tokens = traces[place].completion.tokens or ()
            target = torch.tensor(tokens[start : start + len(everywhere)], device=everywhere.device)
            first = _length(traces[place]) - len(tokens) + start
            values = everywhere.gather(1, target[:, None])[:, 0]
            found[place][first : first + len(everywhere)] = values.cpu().numpy()
        return found

    @torch.inference_mode()
    def top(self, traces: Sequence[Trace], k: int) -> list[TopK]:
        """See `Teacher.top`; k above the vocabulary gives all of it."""
        k = min(k, self._expectations.vocabulary)
        found = [
            TopK(
                np.full((_length(trace), k), -1, np.int32),
                np.full((_length(trace), k), -np.inf, np.float32),
                np.zeros(_length(trace), np.float32),
            )
            for trace in traces
        ]
        for place, start, everywhere in self._expectations.of(_pairs(traces)):
            values, ids = everywhere.topk(k)
            rest = everywhere.scatter(1, ids, -torch.inf).logsumexp(1)
            first = _length(traces[place]) - len(traces[place].completion.tokens or ()) + start
            rows = slice(first, first + len(everywhere))
            found[place].ids[rows] = ids.cpu().numpy()
            found[place].logprobs[rows] = values.cpu().numpy()
            found[place].tail[rows] = rest.cpu().numpy()
        return found


class RoutedTeacher:
    """Several teachers, each for its tasks.

    Args:
        teachers: By the task that a problem names; `*` for every other one.
    """

    def __init__(self, teachers: Mapping[str, Teacher]) -> None:
        """Remember them."""
        self._teachers = dict(teachers)

    def logprobs(self, traces: Sequence[Trace]) -> list[FloatArray]:
        """See `Teacher.logprobs`."""
        found: dict[int, FloatArray] = {}
        for teacher, places in self._routes(traces):
            found |= zip(places, teacher.logprobs([traces[i] for i in places]), strict=True)
        return [found[i] for i in range(len(traces))]

    def top(self, traces: Sequence[Trace], k: int) -> list[TopK]:
        """See `Teacher.top`."""
        found: dict[int, TopK] = {}
        for teacher, places in self._routes(traces):
            found |= zip(places, teacher.top([traces[i] for i in places], k), strict=True)
        return [found[i] for i in range(len(traces))]

    def _routes(self, traces: Sequence[Trace]) -> Iterator[tuple[Teacher, list[int]]]:
        routes: dict[str, list[int]] = {}
        for i, trace in enumerate(traces):
            task = trace.problem.task
            name = task if task in self._teachers else ANY_TASK
            if name not in self._teachers:
                raise ConfigurationError(
                    f"no teacher is named for the task {task!r}",
                    where="teacher",
                    fix=f"name one under {task!r}, or one for all others under {ANY_TASK!r}",
                )
            routes.setdefault(name, []).append(i)
        for name, places in routes.items():
            yield self._teachers[name], places


class Together:
    """A teacher that is asked about all traces of a step at once, and then answers one group after the other.

    Args:
        teacher: Who is asked, when the first answer is wanted.
        traces: All that will be asked about.
    """

    def __init__(self, teacher: Teacher, traces: Sequence[Trace]) -> None:
        """Ask nothing yet."""
        self._teacher, self._traces = teacher, traces
        self._places = {id(trace): place for place, trace in enumerate(traces)}
        self._logprobs: list[FloatArray] | None = None
        self._top: dict[int, list[TopK]] = {}

    def logprobs(self, traces: Sequence[Trace]) -> list[FloatArray]:
        """See `Teacher.logprobs`."""
        if self._logprobs is None:
            self._logprobs = self._teacher.logprobs(self._traces)
        return [self._logprobs[self._places[id(trace)]] for trace in traces]

    def top(self, traces: Sequence[Trace], k: int) -> list[TopK]:
        """See `Teacher.top`."""
        if k not in self._top:
            self._top[k] = self._teacher.top(self._traces, k)
        return [self._top[k][self._places[id(trace)]] for trace in traces]


def _prompt(trace: Trace) -> tuple[int, ...]:
    return trace.completion.prompt_tokens or ()


def _pairs(traces: Sequence[Trace]) -> list[Pair]:
    return [(_prompt(trace), trace.completion.tokens or ()) for trace in traces]


def _length(trace: Trace) -> int:
    return len(_prompt(trace)) + len(trace.completion.tokens or ())
