"""The sampling loop: prompts enter in cohorts, each step adds a token to every sample."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder.core.chat import Chat
from ponder.core.errors import PonderError, ResourceError
from ponder.core.types import Sampling
from ponder.engines._cohort import FORCED, Cohort, Finished, Job
from ponder.engines._constraint import Constraint
from ponder.engines._drawing import Drawn, draw
from ponder.engines._forward import Forward
from ponder.engines._native_cache import grown
from ponder.engines._steering import Manners, Steering
from ponder.engines._stops import BROKEN

PREFILL_TOKENS = 8192
"""Most prompt tokens of one forward pass, unless a single prompt is longer."""
REFILL_BELOW = 0.75
"""New prompts enter when the batch is emptier than this: small cohorts cost more than empty places."""
MAX_PADDING = 1.3
"""Padded over real prompt tokens in a cohort ..."""
FREE_PADDING = 512
"""... unless the padding is fewer tokens than this, where another cohort would cost more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be alive at once."""

    rows: int
    bytes: int
    token_bytes: int
    """Keys and values of one token in all layers."""
    row_bytes: int
    """What a sample needs beside them: logits and their copies."""

    def needed(self, prompts: Sequence[Job], samples: int, max_new_tokens: int) -> int:
        """Bytes that some prompts and samples of them can come to need."""
        tokens = sum(len(job.ids) for job in prompts) + samples * grown(max_new_tokens)
        return tokens * self.token_bytes + samples * self.row_bytes


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends a sample before `max_new_tokens`, and what closes its thought."""

    stop_ids: frozenset[int]
    tags: tuple[int, int] | None
    """Tokens that open and close a thought; None where no budget is kept."""
    opened: bool
    """Whether prompts end inside a thought."""
    manners: Manners | None
    """For thoughts that are steered token by token; None where a budget alone is kept, or nothing."""
    candidates: Tensor | None
    """(V,) whether a token can complete a stop string; None without stop strings."""
    met: Callable[[list[int]], bool]
    """Whether tokens contain a stop string."""
    constraint: Constraint | None = None
    """What answers are held to."""


class Decoder:
    """Draws all samples of some jobs; used once.

    Args:
        model: In evaluation mode, loaded with Ponder's attention.
        sampling: How tokens are drawn.
        ending: What ends a sample.
        limits: What may be alive at once.
        cache_dtype: Of keys and values; None as the model computes.
        rounded: Matrix products in bfloat16.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        sampling: Sampling,
        ending: Ending,
        limits: Limits,
        cache_dtype: torch.dtype | None,
        rounded: bool = False,
    ) -> None:
        """Start with an empty batch."""
        self.cohorts: list[Cohort] = []
        self.drawn = 0
        self._model, self._sampling, self._ending = model, sampling, ending
        with torch.inference_mode():
            self._forward = Forward(model, rounded)
        self._limits, self._cache_dtype = limits, cache_dtype
        self._stops: Tensor | None = None
        self._steerings: dict[tuple[int, int], Steering] = {}
        self._waiting: deque[Job] = deque()

    def add(self, jobs: Sequence[Job]) -> None:
        """Let jobs wait for room in the batch; also between two steps of `run`."""
        self._waiting.extend(sorted(jobs, key=lambda job: -len(job.ids)))

    def check(self, job: Job) -> None:
        """Make sure that one sample of a job fits the memory budget when it is alone.

        Raises:
            ResourceError: If it does not.
        """
        if self._fitting(job, self._limits.bytes) < 1:
            self._refuse(job)

    @torch.inference_mode()
    def drop(self, prompts: Set[int]) -> None:
        """Forget the jobs of some prompts, whether they wait or are being drawn; between two steps of `run`."""
        self._waiting = deque(job for job in self._waiting if job.prompt not in prompts)
        for cohort in self.cohorts:
            members = cohort.members()
            gone = [row for row, (prompt, _) in enumerate(members) if prompt in prompts]
            if gone:
                cohort.remove(torch.tensor(gone))
                self._forget([members[row] for row in gone])
        self.cohorts = [cohort for cohort in self.cohorts if cohort.rows]

    def run(self, jobs: Sequence[Job]) -> Iterator[list[Finished]]:
        """Advance by one token at a time; yields the samples that finished with it.

        Raises:
            ResourceError: If a single sample needs more than the memory budget.
            PonderError: If logits are not finite.
        """
        self.add(jobs)
        while self._waiting or self.cohorts:
            if self._waiting and self._alive < REFILL_BELOW * self._limits.rows:
                for part in _similar(sorted(self._admit(self._waiting), key=lambda job: -len(job.ids))):
                    yield self._prefill(part)
            if self.cohorts:
                yield self._step()

    @property
    def _alive(self) -> int:
        return sum(cohort.rows for cohort in self.cohorts)

    def _admit(self, waiting: deque[Job]) -> list[Job]:
        """Take the jobs that fit beside what is alive; one that never fits whole is split."""
        new = self._sampling.max_new_tokens
        rows = self._limits.rows - self._alive
        space = self._limits.bytes - sum(
            self._limits.needed(cohort.jobs, cohort.places, new) for cohort in self.cohorts
        )
        taken: list[Job] = []
        while waiting:
            job = waiting[0]
            fitting = min(rows, self._fitting(job, space))
            if fitting < len(job.samples):
                if taken or self.cohorts:
                    break
                if fitting < 1:
                    self._refuse(job)
                waiting[0] = _cut(job, fitting, len(job.samples))
                job = _cut(job, 0, fitting)
            else:
                waiting.popleft()
            taken.append(job)
            rows -= len(job.samples)
            space -= self._limits.needed([job], len(job.samples), new)
        return taken

    def _fitting(self, job: Job, space: int) -> int:
        """How many of a job's samples fit into so many bytes."""
        prompt = self._limits.needed([job], 0, self._sampling.max_new_tokens)
        sample = self._limits.needed([], 1, self._sampling.max_new_tokens)
        return max(0, (space - prompt) // sample)

    def _refuse(self, job: Job) -> None:
        needed = self._limits.needed([job], 1, self._sampling.max_new_tokens)
        raise ResourceError(
            f"one sample needs up to {needed / 2**20:.0f} MiB of keys and values, "
            f"the budget is {self._limits.bytes / 2**20:.0f} MiB",
            where=f"prompt {job.prompt}, {len(job.ids)} tokens",
            fix="lower max_new_tokens or raise the engine's memory budget",
        )

    # Not around `run`: a generator would leave the mode switched on for whoever it yields to.
    @torch.inference_mode()
    def _prefill(self, jobs: list[Job]) -> list[Finished]:
        """Run some prompts, once each, and draw the first token of all their samples."""
        device = self._model.device
        cohort = Cohort.of(jobs, self._ending.opened, device, self._cache_dtype, self._forward.kernels)
        last, first = [], 0
        for pack in _packs(jobs):
            last.append(self._forward.prompts([job.ids for job in pack], cohort, first))
            first += len(pack)
        repeats = torch.tensor([len(job.samples) for job in jobs], device=device)
        self.cohorts.append(cohort)
        return self._advance([cohort], torch.cat(last).repeat_interleave(repeats, dim=0))

    @torch.inference_mode()
    def _step(self) -> list[Finished]:
        """One more token for everything that is alive."""
        return self._advance(self.cohorts, self._forward.step(self.cohorts))

    def _advance(self, cohorts: list[Cohort], logits: Tensor) -> list[Finished]:
        """Draw and append a token for all rows of some cohorts, and take out what is finished."""
        uniform = torch.cat([cohort.chance() for cohort in cohorts])
        if self._ending.constraint is not None:
            self._ending.constraint.hold(cohorts, logits)
        drawn = draw(logits, self._sampling, uniform, self._forward.kernels)
        self.drawn += len(logits)
        self._check(cohorts, drawn)
        finished: list[Finished] = []
        sizes = [cohort.rows for cohort in cohorts]
        for cohort, tokens, logprobs in zip(
            cohorts, drawn.tokens.split(sizes), drawn.logprobs.split(sizes), strict=True
        ):
            tokens, logprobs = self._settled(cohort, tokens, logprobs)
            cohort.push(tokens, logprobs)
            gone = self._ended(cohort, tokens, logits.shape[-1])
            if len(gone):
                finished += cohort.remove(gone)
        self._forget([(one.prompt, one.sample) for one in finished])
        self.cohorts = [cohort for cohort in self.cohorts if cohort.rows]
        return finished

    def _settled(self, cohort: Cohort, tokens: Tensor, logprobs: Tensor) -> tuple[Tensor, Tensor]:
        """Drawn tokens (n,) and log-probabilities (n,), those replaced that the thought's rules forbid."""
        limit, manners, tags = self._sampling.max_thinking_tokens, self._ending.manners, self._ending.tags
        if manners is None:
            if limit is None or tags is None:
                return tokens, logprobs
            return cohort.budget(tokens, logprobs, limit, tags)
        taken = []
        for member, token in zip(cohort.members(), tokens.tolist(), strict=True):
            steering = self._steerings.get(member)
            if steering is None:
                steering = self._steerings[member] = Steering(self._sampling, manners)
            taken.append(steering.take(token))
        forced = torch.tensor([is_forced for _, is_forced in taken], device=tokens.device)
        settled = torch.tensor([token for token, _ in taken], device=tokens.device)
        return settled, logprobs.masked_fill(forced, FORCED)

    def _forget(self, members: Sequence[tuple[int, int]]) -> None:
        """What was kept of samples (prompt, sample) that have left."""
        for member in members:
            self._steerings.pop(member, None)
        if self._ending.constraint is not None:
            self._ending.constraint.forget(members)

    def _ended(self, cohort: Cohort, tokens: Tensor, vocabulary: int) -> Tensor:
        """Rows (k,) of a cohort that ended with these tokens (n,), on the CPU."""
        if cohort.length == self._sampling.max_new_tokens:
            return torch.arange(len(tokens))
        if self._stops is None:
            self._stops = torch.zeros(vocabulary, dtype=torch.bool, device=tokens.device)
            self._stops[sorted(self._ending.stop_ids)] = True
        ended = self._stops[tokens]
        if self._ending.candidates is not None:
            for row in (self._ending.candidates[tokens] & ~ended).nonzero()[:, 0].tolist():
                ended[row] = self._ending.met(cohort.sampled(row))
        return ended.nonzero()[:, 0].cpu()

    def _check(self, cohorts: list[Cohort], drawn: Drawn) -> None:
        finite = drawn.logprobs.isfinite()
        if bool(finite.all()):
            return
        row = int((~finite).nonzero()[0])
        for cohort in cohorts:
            if row < cohort.rows:
                raise PonderError(
                    "the model's logits are not finite",
                    where=cohort.describe(row),
                    fix="the weights have diverged: return to an earlier checkpoint or lower lr",
                )
            row -= cohort.rows


def _cut(job: Job, begin: int, end: int) -> Job:
    return replace(job, samples=job.samples[begin:end], keys=job.keys[begin:end])


def _similar(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Neighbours, longest prompt first, whose padding is worth it."""
    part: list[Job] = []
    for job in jobs:
        longest = len((part or [job])[0].ids)
        real = sum(len(member.ids) for member in part) + len(job.ids)
        padded = longest * (len(part) + 1)
        if part and padded > MAX_PADDING * real and padded - real > FREE_PADDING:
            yield part
            part = []
        part.append(job)
    if part:
        yield part


def _packs(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Neighbours that go through the model in one pass."""
    pack: list[Job] = []
    for job in jobs:
        if pack and sum(len(member.ids) for member in pack) + len(job.ids) > PREFILL_TOKENS:
            yield pack
            pack = []
        pack.append(job)
    if pack:
        yield pack


def completing_tokens(chat: Chat, stop: Sequence[str], vocabulary: int, device: torch.device) -> Tensor | None:
    """(V,) tokens that can complete a stop string: only after these is a growing sample decoded."""
    last = {text[-1] for text in stop if text}
    if not last:
        return None
    if any(character.isspace() for character in last):  # some tokenizers hide spaces when a token stands alone
        return torch.ones(vocabulary, dtype=torch.bool, device=device)
    alone = chat.tokenizer.batch_decode([[token] for token in range(min(vocabulary, len(chat.tokenizer)))])
    found = [any(mark in text for mark in (*last, BROKEN)) for text in alone]
    return torch.tensor(found + [False] * (vocabulary - len(found)), device=device)
