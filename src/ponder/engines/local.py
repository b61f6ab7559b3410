"""Samples from a Hugging Face causal LM on this machine.

A prompt is computed and stored once for all its samples, finished samples leave the batch, and nothing is
kept between calls: the weights may change, and the next call feels it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from transformers import PreTrainedModel

from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Sampler, Watch
from ponder.core.types import Completion, Finish, FloatArray, Messages, Sampling, Usage
from ponder.engines._budget import budget
from ponder.engines._cohort import Finished, Job
from ponder.engines._constraint import Constraint, Grammars
from ponder.engines._decode import Decoder, Ending, Limits, completing_tokens
from ponder.engines._drawing import sequence_key
from ponder.engines._session import Session
from ponder.engines._steering import Manners, is_followed, is_steered
from ponder.engines._stops import Texts, pieces_of
from ponder.engines._support import Shape, cache_dtype, shape_of
from ponder.models.head import check_head, hidden_states
from ponder.models.packed import PackedLayout
from ponder.models.scoring import scorer_of

MAX_BATCH = 512
WATCH_EVERY = 16
"""Steps between two calls of a watch."""
REFERENCE_TOKENS = 4096
"""Packed tokens that a reference scores in one pass, unless one sequence is longer."""
LOGIT_ROWS = 1024


class LocalSampler:
    """Samples with the model's weights as they are when it is called.

    Args:
        model: Loaded with Ponder's attention.
        chat: Its chat format.
        name: For traces and reports.
        budget_bytes: Memory for keys, values and logits; by default what PONDER_MEMORY allows, or a quarter of the
            machine's. What does not fit waits.
        max_batch: Samples that are alive at once.
        rounded: Matrix products in bfloat16, as a trainer with `autocast` makes them, whatever the weights are kept in.
        policy_step: Optimiser steps the weights have taken, or what knows them.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        chat: Chat,
        *,
        name: str = "",
        budget_bytes: int | None = None,
        max_batch: int | None = None,
        rounded: bool = False,
        policy_step: Callable[[], int] | int = 0,
    ) -> None:
        """Refuse impossible limits; the model is looked at when it is first used."""
        if (budget_bytes is not None and budget_bytes < 1) or (max_batch is not None and max_batch < 1):
            raise ConfigurationError("budget_bytes and max_batch of a sampler must be at least 1")
        self.name = name or type(model).__name__
        self._model, self._chat, self._policy_step = model, chat, policy_step
        self._budget_bytes, self._max_batch, self._rounded = budget_bytes, max_batch or MAX_BATCH, rounded
        self._grammars: Grammars | None = None

    def generate(
        self, prompts: Sequence[Messages], samples: int, sampling: Sampling, watch: Watch | None = None
    ) -> list[list[Completion]]:
        """See `ponder.core.protocols.Sampler`; equal prompts are sampled once and share their completions.

        Raises:
            ConfigurationError: If `samples` is below 1, a prompt is empty or exceeds the model's context, or
                a thinking budget is asked of a model without thinking tags.
            ResourceError: If the model cannot be sampled here, or one sample exceeds the memory budget.
            PonderError: If logits are not finite.
        """
        if samples < 1:
            raise ConfigurationError(f"samples is {samples}, and must be at least 1")
        encoded = [tuple(self._chat.prompt(messages)) for messages in prompts]
        if not encoded:
            return []
        distinct = list(dict.fromkeys(encoded))
        texts = Texts(self._chat, sampling.stop)
        found: dict[tuple[int, ...], list[Completion | None]] = {ids: [None] * samples for ids in distinct}
        done = 0
        with _evaluation(self._model):
            decoder = self._decoder(encoded, sampling, texts)
            for step, finished in enumerate(decoder.run(_jobs(distinct, samples, sampling.seed))):
                for one in finished:
                    found[distinct[one.prompt]][one.sample] = self._completion(one, distinct[one.prompt], texts)
                done += len(finished)
                if watch is not None and (finished or step % WATCH_EVERY == 0):
                    watch(done, decoder.drawn)
        return [[completion for completion in found[ids] if completion is not None] for ids in encoded]

    def generate_each(
        self, prompts: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, watch: Watch | None = None
    ) -> list[Completion]:
        """One completion per prompt with a seed of its own: sample 0 of that prompt alone under that seed.

        Raises:
            What `generate` raises.
        """
        encoded = [tuple(self._chat.prompt(messages)) for messages in prompts]
        if not encoded:
            return []
        texts = Texts(self._chat, sampling.stop)
        found: dict[int, Completion] = {}
        with _evaluation(self._model):
            decoder = self._decoder(encoded, sampling, texts)
            jobs = [
                Job(place, ids, range(1), (sequence_key(seed, ids, 0),))
                for place, (ids, seed) in enumerate(zip(encoded, seeds, strict=True))
            ]
            for step, finished in enumerate(decoder.run(jobs)):
                found |= {one.prompt: self._completion(one, encoded[one.prompt], texts) for one in finished}
                if watch is not None and (finished or step % WATCH_EVERY == 0):
                    watch(len(found), decoder.drawn)
        return [found[place] for place in range(len(encoded))]

    @contextmanager
    def session(self, sampling: Sampling, share: float = 1.0) -> Iterator[Session]:
        """Samples that are asked for one by one and drawn together; the seed of `sampling` is not used.

        Args:
            sampling: Of all of them.
            share: Part of the memory budget that they may take, where several sessions are open at once.

        Raises:
            What `generate` raises, where a prompt is added.
        """
        texts = Texts(self._chat, sampling.stop)
        limit = shape_of(self._model, self._rounded).max_positions
        with _evaluation(self._model):
            yield Session(
                self._decoder([], sampling, texts, share),
                texts,
                check=lambda ids: _check_lengths([ids], sampling.max_new_tokens, limit),
                complete=lambda one, ids: self._completion(one, ids, texts),
            )

    @property
    def positions(self) -> int | None:
        """Tokens that the model can take, prompt and completion together; None: it has no limit."""
        return shape_of(self._model, self._rounded).max_positions

    def room(self, messages: Messages) -> int | None:
        """Positions that the model has left behind a conversation; None: it has no limit."""
        limit = self.positions
        return None if limit is None else limit - len(self._chat.prompt(messages))

    def stream(self, messages: Messages, sampling: Sampling) -> Iterator[str]:
        """The text of sample 0 in pieces of whole characters, which add up to its text."""
        ids = tuple(self._chat.prompt(messages))
        texts = Texts(self._chat, sampling.stop)
        with _evaluation(self._model):
            decoder = self._decoder([ids], sampling, texts)
            yield from pieces_of(
                texts.text(finished[0].tokens) if finished else texts.settled(decoder.cohorts[0].sampled(0))
                for finished in decoder.run(_jobs([ids], 1, sampling.seed))
            )

    def _decoder(
        self, prompts: Sequence[tuple[int, ...]], sampling: Sampling, texts: Texts, share: float = 1.0
    ) -> Decoder:
        shape = shape_of(self._model, self._rounded)
        _check_lengths(prompts, sampling.max_new_tokens, shape.max_positions)
        device = self._model.device
        manners = Manners.of(self._chat, sampling)
        ending = Ending(
            stop_ids=frozenset(i for i in self._chat.stop_ids if i < shape.vocabulary),
            tags=(manners.opening, manners.closing) if manners is not None and is_steered(sampling) else None,
            opened=self._chat.prompt_opens_thinking,
            manners=manners if is_followed(sampling) else None,
            candidates=completing_tokens(self._chat, sampling.stop, shape.vocabulary, device),
            met=texts.met,
            constraint=self._constraint(sampling),
        )
        limits, dtype = self._limits(shape, share), cache_dtype(self._model, self._rounded)
        return Decoder(self._model, sampling, ending, limits, dtype, self._rounded)

    def check(self, sampling: Sampling) -> None:
        """Refuse a way of sampling that this model cannot do, before anything is drawn.

        Raises:
            ConfigurationError: See `generate`.
            ResourceError: If a package for it is missing.
        """
        Manners.of(self._chat, sampling)
        self._constraint(sampling)

    def _constraint(self, sampling: Sampling) -> Constraint | None:
        """What holds answers to a JSON schema, if that is asked for.

        Raises:
            ConfigurationError: If the schema is not one that can be followed, or stop strings could cut the answer.
            ResourceError: If the package for it is missing.
        """
        if sampling.json_schema is None:
            return None
        if sampling.stop:
            raise ConfigurationError("an answer that is held to a JSON schema cannot have stop strings", where="stop")
        if self._grammars is None:
            self._grammars = Grammars(self._chat, shape_of(self._model, self._rounded).vocabulary)
        return Constraint.of(self._grammars, sampling.json_schema)

    def _limits(self, shape: Shape, share: float) -> Limits:
        allowed = int((self._budget_bytes or budget(self._model.device)) * share)
        return Limits(self._max_batch, allowed, shape.token_bytes, row_bytes=4 * 4 * shape.vocabulary)

    def _completion(self, one: Finished, prompt: tuple[int, ...], texts: Texts) -> Completion:
        tokens = one.tokens
        return Completion(
            text=texts.text(tokens),
            finish=Finish.STOP if texts.ended(tokens) else Finish.LENGTH,
            prompt_tokens=prompt,
            tokens=tuple(tokens),
            logprobs=tuple(one.logprobs),
            forced=one.forced,
            usage=Usage(
                prompt_tokens=len(prompt),
                completion_tokens=len(tokens),
                thinking_tokens=texts.thinking_tokens(tokens),
            ),
            seconds=one.seconds,
            policy_step=self._policy_step() if callable(self._policy_step) else self._policy_step,
        )


class LocalReference:
    """Log-probabilities under a model's weights, by a full forward pass.

    Args:
        model: Loaded with Ponder's attention.
        max_tokens: Packed tokens of one pass.
    """

    def __init__(self, model: PreTrainedModel, max_tokens: int = REFERENCE_TOKENS) -> None:
        """Try the model once; its weights are read when sequences are scored."""
        check_head(model)
        self._model, self._max_tokens = model, max_tokens

    @torch.inference_mode()
    def logprobs(self, sequences: Sequence[Sequence[int]]) -> list[FloatArray]:
        """See `ponder.core.protocols.Reference`; at temperature 1."""
        scores = [np.zeros(len(tokens), np.float32) for tokens in sequences]
        order = sorted((i for i, tokens in enumerate(sequences) if len(tokens) > 1), key=lambda i: -len(sequences[i]))
        with _evaluation(self._model):
            while order:
                batch, total = [], 0
                while order and (not batch or total + len(sequences[order[0]]) <= self._max_tokens):
                    batch.append(order.pop(0))
                    total += len(sequences[batch[-1]])
                for i, values in zip(batch, self._score([sequences[i] for i in batch]), strict=True):
                    scores[i][1:] = values[:-1]
        return scores

    def _score(self, sequences: list[Sequence[int]]) -> list[FloatArray]:
        """Per sequence (T,): log-probability of the next token; the last entry says nothing."""
        device = self._model.device
        lengths = [len(tokens) for tokens in sequences]
        ids = torch.tensor([token for tokens in sequences for token in tokens], device=device)
        positions = torch.cat([torch.arange(length) for length in lengths]).to(device)
        hidden = hidden_states(self._model, ids, positions, PackedLayout(lengths, device))
        following = ids.roll(-1)
        scorer = scorer_of(self._model, rounded=False)
        rows = [
            scorer.logits(part).log_softmax(-1).gather(-1, after[:, None])[:, 0]
            for part, after in zip(hidden.split(LOGIT_ROWS), following.split(LOGIT_ROWS), strict=True)
        ]
        return [values.numpy() for values in torch.cat(rows).cpu().split(lengths)]


@contextmanager
def _evaluation(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode; training mode comes back afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _jobs(prompts: Sequence[tuple[int, ...]], samples: int, seed: int) -> list[Job]:
    return [
        Job(place, ids, range(samples), tuple(sequence_key(seed, ids, sample) for sample in range(samples)))
        for place, ids in enumerate(prompts)
    ]


def _check_lengths(prompts: Sequence[tuple[int, ...]], new: int, limit: int | None) -> None:
    for place, ids in enumerate(prompts):
        if not ids:
            raise ConfigurationError("the prompt has no tokens", where=f"prompt {place}")
        if limit is not None and len(ids) + new > limit:
            raise ConfigurationError(
                f"{len(ids)} prompt tokens and {new} new ones do not fit the model's {limit} positions",
                where=f"prompt {place}",
                fix=f"shorten the prompt or lower max_new_tokens (to {limit - len(ids)})"
                if len(ids) < limit
                else "shorten the prompt; nothing is cut in silence",
            )


plugin: type[Sampler] = LocalSampler
