"""What a model expects at every token of given completions: packed passes in which equal prompts are read once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder.models.head import check_head, forward_of, longest_shared
from ponder.models.packed import PackedLayout
from ponder.models.scoring import Scorer, scorer_of

PASS_TOKENS = 4096
"""Packed tokens of one pass, unless one pair is longer."""
LOGIT_ENTRIES = 1 << 22
"""Logits held at a time (rows x vocabulary)."""
Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""Tokens of a prompt (one or more) and of what follows it."""


@dataclass(slots=True)
class _Family:
    """Pairs that begin with the same prompt, which is then read once."""

    prompt: tuple[int, ...]
    members: list[int]
    """Places among the pairs that were asked about."""


class Expectations:
    """Log-probabilities over the vocabulary, a chunk at a time; call it in inference mode.

    Args:
        model: In evaluation mode, loaded with Ponder's attention.
        vocabulary: Tokens from here on are in no distribution; None: all are.
        max_tokens: Packed tokens of one pass.
    """

    def __init__(self, model: PreTrainedModel, vocabulary: int | None = None, max_tokens: int = PASS_TOKENS) -> None:
        """Try the model once."""
        check_head(model)
        own = int(model.config.get_text_config().vocab_size)
        self._model, self._max_tokens = model, max_tokens
        self.vocabulary = min(own, vocabulary or own)
        self._share_up_to = longest_shared(model, rounded=False)

    def of(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, int, Tensor]]:
        """(place of a pair, first token of its completion, (n, V) log-probabilities of the tokens from there)."""
        scorer = scorer_of(self._model, rounded=False)
        per_chunk = max(1, LOGIT_ENTRIES // int(self._model.config.get_text_config().vocab_size))
        for families in self._passes(pairs):
            hidden = self._read(families, pairs)
            for place, rows in hidden:
                for start in range(0, len(rows), per_chunk):
                    yield place, start, self._distribution(scorer, rows[start : start + per_chunk])

    def _distribution(self, scorer: Scorer, hidden: Tensor) -> Tensor:
        return scorer.logits(hidden)[:, : self.vocabulary].log_softmax(-1)

    def _passes(self, pairs: Sequence[Pair]) -> Iterator[list[_Family]]:
        """Families of at most `max_tokens` together; a large family is cut, and its prompt read again."""
        order = sorted(range(len(pairs)), key=lambda i: (-len(pairs[i][0]), pairs[i][0], i))
        families: list[_Family] = []
        room = 0
        for place in order:
            prompt, completion = pairs[place]
            if not completion:
                continue
            whole = len(prompt) + len(completion)
            shared = bool(families) and families[-1].prompt == prompt and whole <= self._share_up_to
            cost = len(completion) + (0 if shared else len(prompt))
            if cost > room and families:
                yield families
                families, shared, cost = [], False, whole
            if not families:
                room = max(self._max_tokens, cost)
            if shared:
                families[-1].members.append(place)
            else:
                families.append(_Family(prompt, [place]))
            room -= cost
        if families:
            yield families

    def _read(self, families: list[_Family], pairs: Sequence[Pair]) -> list[tuple[int, Tensor]]:
        """Last hidden states that predict each completion token, per place."""
        families = sorted(families, key=lambda family: -len(family.members))
        packed = _Packed()
        for family in families:
            packed.add(family.prompt, [pairs[place][1] for place in family.members])
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
