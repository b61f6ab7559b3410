"""Samples that entered the batch together, and how they leave it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor

from ponder.engines._caches import BLOCK, HIDDEN, Grid, LayerCache, resized
from ponder.engines._drawing import uniforms
from ponder.engines._native_cache import NativeCache
from ponder.models.native.build import Kernels

FORCED = 1.0
"""Stands in the place of a forced token's log-probability until it leaves: no sampled token can have it."""
KEEP_GROUPS_ABOVE = 0.75
"""Prompts are forgotten once fewer than this share of them still has a living sample."""


@dataclass(frozen=True, slots=True)
class Job:
    """Samples of one prompt that are to be drawn."""

    prompt: int
    """Place among the distinct prompts."""
    ids: tuple[int, ...]
    samples: range
    keys: tuple[int, ...]
    """Key of the random numbers of every sample in `samples`."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A sample that left the batch."""

    prompt: int
    sample: int
    tokens: list[int]
    logprobs: list[float]
    forced: tuple[int, ...]
    seconds: float


@dataclass(slots=True)
class _Rows:
    """What every living sample carries; row i of all these tensors is one sample."""

    tokens: Tensor  # (n, capacity) int64, as sampled
    logprobs: Tensor  # (n, capacity)
    keys: Tensor  # (n,)
    uniform: Tensor  # (n, BLOCK) random numbers of this block of tokens
    prefix: Tensor  # (n,) tokens of its prompt
    thought: Tensor  # (n,) tokens generated inside open thoughts
    inside: Tensor  # (n,) whether a thought is open
    owners: Tensor  # (n,) its group, on the CPU
    samples: Tensor  # (n,) its index among the samples of its prompt, on the CPU

    def each(self) -> Iterator[tuple[str, Tensor]]:
        for name in self.__slots__:
            yield name, getattr(self, name)


@dataclass(slots=True)
class Cohort:
    """Groups that entered together, so that all their suffixes are equally long."""

    jobs: list[Job]
    device: torch.device
    cache_dtype: torch.dtype | None
    """None: as the model computes."""
    kernels: Kernels | None
    """What reads the caches, if it is not torch."""
    length: int = 0
    """Tokens of every suffix, the one that is being computed included."""
    layers: dict[int, LayerCache | NativeCache] = field(default_factory=dict)
    padding: Tensor | None = None  # (groups, 1, 1, prefix) 0 or HIDDEN
    grid: Grid = field(init=False)
    prompts: Tensor = field(init=False)  # (groups,) tokens of each prompt, on the CPU
    places: int = field(init=False)
    """Suffixes that memory is held for, dead ones included."""
    _rows: _Rows = field(init=False)
    _started: float = field(default_factory=perf_counter)

    @classmethod
    def of(
        cls,
        jobs: Sequence[Job],
        inside: bool,
        device: torch.device,
        cache_dtype: torch.dtype | None,
        kernels: Kernels | None = None,
    ) -> Cohort:
        """Rows for all samples of the jobs; `inside` says whether prompts open a thought."""
        self = cls(list(jobs), device, cache_dtype, kernels)
        sizes = torch.tensor([len(job.samples) for job in jobs])
        prompts = torch.tensor([len(job.ids) for job in jobs])
        rows, width = int(sizes.sum()), int(prompts.max())
        self.places, self.prompts = rows, prompts
        owners = torch.arange(len(jobs)).repeat_interleave(sizes)
        keys = torch.tensor([key for job in jobs for key in job.keys], device=device)
        self._rows = _Rows(
            tokens=torch.zeros(rows, BLOCK, dtype=torch.int64, device=device),
            logprobs=torch.zeros(rows, BLOCK, device=device),
            keys=keys,
            uniform=torch.empty(rows, 0, device=device),
            prefix=prompts[owners].to(device),
            thought=torch.zeros(rows, dtype=torch.int64, device=device),
            inside=torch.full((rows,), inside, device=device),
            owners=owners,
            samples=torch.tensor([sample for job in jobs for sample in job.samples]),
        )
        if int(prompts.min()) < width:
            hidden = torch.arange(width) < (width - prompts)[:, None]
            self.padding = torch.zeros(len(jobs), 1, 1, width, device=device)
            self.padding.masked_fill_(hidden[:, None, None].to(device), HIDDEN)
        self.grid = Grid(owners, len(jobs), device)
        return self

    @property
    def rows(self) -> int:
        """Living samples."""
        return len(self._rows.keys)

    def chance(self) -> Tensor:
        """(n,) the rows' random numbers for the token that is drawn next; made a block at a time."""
        place = self.length % BLOCK
        if place == 0:
            block = torch.arange(self.length, self.length + BLOCK, device=self.device)
            self._rows.uniform = uniforms(self._rows.keys[:, None], block)
        return self._rows.uniform[:, place]

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        """Newest tokens (n,) and their positions (n,)."""
        return self._rows.tokens[:, self.length - 1], self._rows.prefix + (self.length - 1)

    def make_layer(self, keys: Tensor, values: Tensor) -> LayerCache | NativeCache:
        """Room for a layer that shows itself for the first time."""
        width = int(self.prompts.max())
        if self.kernels is not None:
            return NativeCache(len(self.jobs), self.rows, width, keys, self.kernels)
        return LayerCache(len(self.jobs), self.rows, width, keys, values, self.cache_dtype or keys.dtype)

    def push(self, tokens: Tensor, logprobs: Tensor) -> None:
        """Append one token to every row."""
        if self.length == self._rows.tokens.shape[1]:
            self._resize()
        self._rows.tokens[:, self.length] = tokens
        self._rows.logprobs[:, self.length] = logprobs
        self.length += 1

    def budget(self, tokens: Tensor, logprobs: Tensor, limit: int, tags: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Close thoughts of `limit` tokens: drawn tokens (n,) and log-probabilities (n,), some replaced."""
        opening, closing = tags
        rows = self._rows
        due = rows.inside & (rows.thought >= limit)
        tokens = tokens.masked_fill(due, closing)
        rows.thought += rows.inside & (tokens != closing)
        rows.inside = (rows.inside | (tokens == opening)) & (tokens != closing)
        return tokens, logprobs.masked_fill(due, FORCED)

    def sampled(self, row: int) -> list[int]:
        """Tokens that a row has so far."""
        return self._rows.tokens[row, : self.length].tolist()

    def members(self) -> list[tuple[int, int]]:
        """(prompt, sample) of every row."""
        owners, samples = self._rows.owners.tolist(), self._rows.samples.tolist()
        return [(self.jobs[owner].prompt, sample) for owner, sample in zip(owners, samples, strict=True)]

    def describe(self, row: int) -> str:
        """Which sample a row is, for an error."""
        job = self.jobs[int(self._rows.owners[row])]
        return f"token {self.length} of sample {int(self._rows.samples[row])} of prompt {job.prompt}"

    def remove(self, gone: Tensor) -> list[Finished]:
        """Take finished rows (k,), ascending, out of the batch; the last living ones take their places."""
        finished = self._collect(gone)
        alive = torch.ones(self.rows, dtype=torch.bool)
        alive[gone] = False
        left = int(alive.sum())
        holes, movers = gone[gone < left], left + alive[left:].nonzero()[:, 0]
        near, far = holes.to(self.device), movers.to(self.device)
        if len(holes):
            for layer in self.layers.values():
                layer.move_rows(near, far, self.length)
        for name, tensor in self._rows.each():
            on_cpu = name in ("owners", "samples")
            tensor[holes if on_cpu else near] = tensor[movers if on_cpu else far]
            setattr(self._rows, name, tensor[:left])
        if left:
            self._forget_groups()
        if 2 * left < self.places:
            self._resize()
        return finished

    def _resize(self) -> None:
        """Give room for the next block of tokens, and give back that of rows that have left."""
        self.places = self.rows
        self._rows.tokens = resized(self._rows.tokens, self.rows, self.length, axis=1)
        self._rows.logprobs = resized(self._rows.logprobs, self.rows, self.length, axis=1)
        for layer in self.layers.values():
            layer.resize(self.rows, self.length)

    def _forget_groups(self) -> None:
        living = self._rows.owners.unique()
        if len(living) < KEEP_GROUPS_ABOVE * len(self.jobs):
            kept = living.to(self.device)
            for layer in self.layers.values():
                layer.keep_groups(kept)
            self.padding = None if self.padding is None else self.padding[kept]
            self.jobs = [self.jobs[group] for group in living.tolist()]
            self.prompts = self.prompts[living]
            self._rows.owners = torch.searchsorted(living, self._rows.owners)
        self.grid = Grid(self._rows.owners, len(self.jobs), self.device)

    def _collect(self, gone: Tensor) -> list[Finished]:
        seconds = perf_counter() - self._started
        where = gone.to(self.device)
        tokens = self._rows.tokens[where, : self.length].tolist()
        logprobs = self._rows.logprobs[where, : self.length].tolist()
        return [
            Finished(
                self.jobs[owner].prompt,
                sample,
                ids,
                [0.0 if value == FORCED else value for value in row],
                tuple(place for place, value in enumerate(row) if value == FORCED),
                seconds,
            )
            for owner, sample, ids, row in zip(
                self._rows.owners[gone].tolist(),
                self._rows.samples[gone].tolist(),
                tokens,
                logprobs,
                strict=True,
            )
        ]
