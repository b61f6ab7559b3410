"""Holds an answer to a JSON schema while it is drawn: tokens that cannot go on are given no chance.

The thought before it is free, but for its end: a turn that ends inside a thought would have no answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ponder.core.chat import Chat
from ponder.core.errors import PonderError
from ponder.engines._cohort import Cohort
from ponder.engines._guidance import compiled, tokenizer_of

WHITESPACE = r"\n?[ ]{0,8}"
"""Between the parts of JSON: enough to lay it out, too little to go on for ever."""
LAYOUT = {"whitespace_flexible": True, "whitespace_pattern": WHITESPACE}
MAX_KNOWN = 16
"""Compiled schemas that are kept."""


class Grammars:
    """Compiles schemas for one tokenizer.

    Args:
        chat: Of the model; its tokenizer is a fast one.
        vocabulary: Logits of the model.

    Raises:
        ResourceError: If the package that does it is missing.
    """

    def __init__(self, chat: Chat, vocabulary: int) -> None:
        """Read the vocabulary once, which takes up to a second."""
        tokens = json.loads(chat.tokenizer.backend_tokenizer.to_str())
        tokens["truncation"] = tokens["padding"] = None
        self.chat, self.vocabulary = chat, vocabulary
        self._known: dict[str, Any] = {}
        ends = sorted(token for token in chat.stop_ids if token < vocabulary)
        self._tokenizer = tokenizer_of(json.dumps(tokens), vocabulary, ends)

    def matcher(self, schema: str) -> Any:
        """What follows an answer, token by token; to be copied, not used up.

        Raises:
            ConfigurationError: If the schema is too large, asks for what is not known, or can never be met.
        """
        if schema in self._known:
            return self._known[schema]
        found, _ = compiled(self._tokenizer, schema, LAYOUT)
        while len(self._known) >= MAX_KNOWN:
            self._known.pop(next(iter(self._known)), None)
        self._known[schema] = found
        return found


@dataclass(slots=True)
class _Row:
    """How far one sample has come."""

    matcher: Any
    thinking: bool
    begun: bool = False
    """Whether a token of it was drawn."""


@dataclass(slots=True)
class Constraint:
    """Holds the samples of one decoder to one schema."""

    grammars: Grammars
    matcher: Any
    """Fresh; every sample gets a copy."""
    _rows: dict[tuple[int, int], _Row] = field(default_factory=dict)
    _ends: Tensor | None = None

    @classmethod
    def of(cls, grammars: Grammars, schema: str) -> Constraint:
        """Compile a schema.

        Raises:
            ConfigurationError: See `Grammars.matcher`.
        """
        return cls(grammars, grammars.matcher(schema))

    def hold(self, cohorts: Sequence[Cohort], logits: Tensor) -> None:
        """Take every chance from tokens that may not come next: logits (n, V) of the rows of some cohorts.

        Called once for every token of a sample, after the one before was pushed.

        Raises:
            PonderError: If following the schema has become too much work.
        """
        first = 0
        for cohort in cohorts:
            newest = cohort.inputs[0].tolist() if cohort.length else [None] * cohort.rows
            for row, (member, token) in enumerate(zip(cohort.members(), newest, strict=True)):
                self._hold(self._state(member, token), logits[first + row])
            first += cohort.rows

    def forget(self, members: Sequence[tuple[int, int]]) -> None:
        """Samples, as (prompt, sample), that have left."""
        for member in members:
            self._rows.pop(member, None)

    def _state(self, member: tuple[int, int], token: int | None) -> _Row:
        if token is None:
            opened = self.grammars.chat.prompt_opens_thinking
            self._rows[member] = _Row(self.matcher.deep_copy(), thinking=opened)
            return self._rows[member]
        row, chat = self._rows[member], self.grammars.chat
        if row.thinking:
            row.thinking = token != chat.think_close
        elif not row.begun and token == chat.think_open:
            row.thinking = True
        elif not row.matcher.consume_token(token):
            raise PonderError("the answer left its JSON schema", fix="use a simpler schema")
        row.begun = True
        return row

    def _hold(self, row: _Row, logits: Tensor) -> None:
        """Mask the logits (V,) of one sample."""
        chat = self.grammars.chat
        if row.thinking:
            logits[self._end_ids(logits.device)] = -torch.inf
            return
        bits = np.frombuffer(row.matcher.compute_bitmask(), np.uint8)
        if row.matcher.is_error():
            raise PonderError("the JSON schema is too much work to follow", fix="use a simpler schema")
        allowed = np.unpackbits(bits, bitorder="little", count=len(logits)).astype(bool)
        if not row.begun and chat.think_open is not None and chat.think_close is not None:
            allowed[chat.think_open] = True
        if not allowed.any():
            raise PonderError("the JSON schema cannot be met from here", fix="use a simpler schema")
        logits[torch.from_numpy(~allowed).to(logits.device)] = -torch.inf

    def _end_ids(self, device: torch.device) -> Tensor:
        if self._ends is None:
            ends = [token for token in sorted(self.grammars.chat.stop_ids) if token < self.grammars.vocabulary]
            self._ends = torch.tensor(ends, device=device)
        return self._ends
