"""Teachers that share the student's tokenizer: a model of this machine, several by task, and one asked beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Teacher
from ponder.core.types import FloatArray, TopK, Trace
from ponder.models.head import check_head, forward_of, longest_shared
from ponder.models.packed import PackedLayout
from ponder.models.scoring import Scorer, scorer_of

TEACHER_TOKENS = 4096
"""Packed tokens that a teacher reads in one pass, unless one trace is longer."""
LOGIT_ENTRIES = 1 << 22
"""Logits held at a time (rows x vocabulary)."""
ANY_TASK = "*"


@dataclass(slots=True)
class _Family:
    """Traces that begin with the same prompt, which is then read once."""

    prompt: tuple[int, ...]
    members: list[int]
    """Places among the traces that were asked about."""


class LocalTeacher:
    """A model of this machine that says what it would have expected; see `ponder.core.protocols.Teacher`.

    Args:
        model: Loaded with Ponder's attention; its tokens are the student's.
        vocabulary: Size of the student's, where the two are padded to different sizes; tokens above it are in no
            distribution.
        max_tokens: Packed tokens of one pass.
    """

    def __init__(self, model: PreTrainedModel, vocabulary: int | None = None, max_tokens: int = TEACHER_TOKENS) -> None:
        """Try the model once."""
        check_head(model)
        own = int(model.config.get_text_config().vocab_size)
        self._model, self._max_tokens = model.eval(), max_tokens
        self._vocabulary = min(own, vocabulary or own)
        self._share_up_to = longest_shared(model, rounded=False)

    @torch.inference_mode()
    def logprobs(self, traces: Sequence[Trace]) -> list[FloatArray]:
        """See `Teacher.logprobs`; the prompt is NaN."""
        found = [np.full(_length(trace), np.nan, np.float32) for trace in traces]
        for place, start, everywhere in self._expectations(traces):
            tokens = traces[place].completion.tokens or ()
            target = torch.tensor(tokens[start : start + len(everywhere)], device=everywhere.device)
            first = _length(traces[place]) - len(tokens) + start
            values = everywhere.gather(1, target[:, None])[:, 0]
            found[place][first : first + len(everywhere)] = values.cpu().numpy()
        return found

    @torch.inference_mode()
    def top(self, traces: Sequence[Trace], k: int) -> list[TopK]:
        """See `Teacher.top`; k above the vocabulary gives all of it."""
        k = min(k, self._vocabulary)
        found = [
            TopK(
                np.full((_length(trace), k), -1, np.int32),
                np.full((_length(trace), k), -np.inf, np.float32),
                np.zeros(_length(trace), np.float32),
            )
            for trace in traces
        ]
        for place, start, everywhere in self._expectations(traces):
            values, ids = everywhere.topk(k)
            rest = everywhere.scatter(1, ids, -torch.inf).logsumexp(1)
            first = _length(traces[place]) - len(traces[place].completion.tokens or ()) + start
            rows = slice(first, first + len(everywhere))
            found[place].ids[rows] = ids.cpu().numpy()
            found[place].logprobs[rows] = values.cpu().numpy()
            found[place].tail[rows] = rest.cpu().numpy()
        return found

    def _expectations(self, traces: Sequence[Trace]) -> Iterator[tuple[int, int, Tensor]]:
        """(place of a trace, first completion token, (n, V) log-probabilities of the tokens from there)."""
        scorer = scorer_of(self._model, rounded=False)
        per_chunk = max(1, LOGIT_ENTRIES // int(self._model.config.get_text_config().vocab_size))
        for families in self._passes(traces):
            hidden = self._read(families, traces)
            for place, rows in hidden:
                for start in range(0, len(rows), per_chunk):
                    yield place, start, self._distribution(scorer, rows[start : start + per_chunk])

    def _distribution(self, scorer: Scorer, hidden: Tensor) -> Tensor:
        return scorer.logits(hidden)[:, : self._vocabulary].log_softmax(-1)

    def _passes(self, traces: Sequence[Trace]) -> Iterator[list[_Family]]:
        """Families of at most `max_tokens` together; a large family is cut, and its prompt read again."""
        order = sorted(range(len(traces)), key=lambda i: (-len(_prompt(traces[i])), _prompt(traces[i]), i))
        families: list[_Family] = []
        room = 0
        for place in order:
            if not traces[place].completion.tokens:
                continue
            prompt = _prompt(traces[place])
            shared = bool(families) and families[-1].prompt == prompt and _length(traces[place]) <= self._share_up_to
            cost = len(traces[place].completion.tokens or ()) + (0 if shared else len(prompt))
            if cost > room and families:
                yield families
                families, shared, cost = [], False, _length(traces[place])
            if not families:
                room = max(self._max_tokens, cost)
            if shared:
                families[-1].members.append(place)
            else:
                families.append(_Family(prompt, [place]))
            room -= cost
        if families:
            yield families

    def _read(self, families: list[_Family], traces: Sequence[Trace]) -> list[tuple[int, Tensor]]:
        """Last hidden states that predict each completion token, per place."""
        families = sorted(families, key=lambda family: -len(family.members))
        packed = _Packed()
        for family in families:
            packed.add(family.prompt, [(traces[place].completion.tokens or ()) for place in family.members])
        device = self._model.device
        tokens, positions, rows = packed.laid_out()
        layout = PackedLayout([len(trunk) for trunk in packed.trunks], device, packed.branch_lengths())
        wanted = torch.tensor([row for part in rows for row in part], device=device)
        hidden = forward_of(self._model)(
            torch.tensor(tokens, device=device), torch.tensor(positions, device=device), layout, wanted
        )
        members = [place for family in families for place in family.members]
        return list(zip(members, hidden.split([len(part) for part in rows]), strict=True))


class _Packed:
    """Prompts and their completions as the rows of one pass. A completion's last token predicts nothing: it is left."""

    def __init__(self) -> None:
        self.trunks: list[tuple[int, ...]] = []
        self.tails: list[list[tuple[int, ...]]] = []
        self._prompts: list[int] = []

    def add(self, prompt: tuple[int, ...], completions: list[tuple[int, ...]]) -> None:
        """A prompt and its completions, none empty; one alone needs no branch."""
        tails = [completion[:-1] for completion in completions]
        alone = len(tails) == 1
        self.trunks.append(prompt + tails[0] if alone else prompt)
        self.tails.append([] if alone else tails)
        self._prompts.append(len(prompt))

    def branch_lengths(self) -> list[list[int]]:
        """Of the completions that have anything to read."""
        return [[len(tail) for tail in tails if tail] for tails in self.tails]

    def laid_out(self) -> tuple[list[int], list[int], list[list[int]]]:
        """Tokens, positions, and for every completion the rows that predict its tokens."""
        tokens = [token for trunk in self.trunks for token in trunk]
        positions = [i for trunk in self.trunks for i in range(len(trunk))]
        rows: list[list[int]] = []
        start = 0
        for trunk, tails, prompt in zip(self.trunks, self.tails, self._prompts, strict=True):
            last = start + prompt - 1
            if not tails:
                rows.append(list(range(last, start + len(trunk))))
            for tail in tails:
                rows.append([last, *range(len(tokens), len(tokens) + len(tail))])
                tokens += tail
                positions += range(prompt, prompt + len(tail))
            start += len(trunk)
        return tokens, positions, rows


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


def _length(trace: Trace) -> int:
    return len(_prompt(trace)) + len(trace.completion.tokens or ())
