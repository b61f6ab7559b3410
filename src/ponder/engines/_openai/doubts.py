"""Doubts about a server that answers: it read less than it was sent, another model answers, a setting is ignored."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from ponder.core.errors import ConfigurationError, PonderError
from ponder.core.types import Messages
from ponder.engines._openai.asks import Ask
from ponder.engines._openai.failures import RequestFailure
from ponder.engines._openai.replies import Bought
from ponder.engines._openai.served import Served
from ponder.measure.costs.prices import plain_name

ROUGH_BYTES, MOST_PER_TOKEN = 2000, 10
"""Without a tokenizer a prompt of this many bytes is doubted when a token of it would hold more bytes than that."""
SLACK, SLACK_TOKENS = 0.05, 16
"""Part of the tokens, and tokens besides (templates differ), by which a count with the tokenizer may be short."""
_log = logging.getLogger("ponder.engines.openai")

Counting = Callable[[Messages], int]
"""Tokens of a conversation with the generation prompt."""


class Doubts:
    """What is looked at in every reply.

    Args:
        served: Who answers.
        count: Counts a prompt, where the tokenizer is known.
        warn: Told what a user should look at, once each.
    """

    def __init__(
        self, served: Served, count: Counting | None = None, warn: Callable[[str], None] = _log.warning
    ) -> None:
        self._served, self._count, self._warn = served, count, warn
        self._said: set[str] = set()
        self._models: set[str] = set()
        self.failures: Counter[str] = Counter()
        """Samples that were given up, by the message of the failure."""
        self.notes: list[str] = []
        """Everything that was warned of."""

    def about(self, ask: Ask, bought: Bought) -> PonderError | None:
        """The reason not to go on that a reply gives, if any."""
        self._look_at_model(bought.completions[0].model)
        if self._served.logprobs and bought.completions[0].logprobs is None and bought.completions[0].text:
            self.say("logprobs", "the server was asked for log-probabilities and gives none")
        return None if bought.usage.estimated else self._cut(ask, bought.usage.prompt_tokens)

    def failed(self, failure: RequestFailure) -> None:
        """A sample was given up."""
        self.failures[failure.message] += 1
        self.say(f"failed {failure.kind}", f"a sample was given up, and others may be: {failure.message}")

    def say(self, about: str, text: str) -> None:
        """Warn of something once."""
        if about not in self._said:
            self._said.add(about)
            self.notes.append(text)
            self._warn(text)

    def _look_at_model(self, model: str) -> None:
        """The model that answers should be the one that was asked; a dated name of it is."""
        if not model or model in self._models:
            return
        self._models.add(model)
        if not plain_name(model).startswith(plain_name(self._served.model)):
            self.say("model", f"asked for the model {self._served.model!r}, the server answers as {model[:100]!r}")
        elif len(self._models) > 1:
            self.say("swapped", f"the server answers as several models: {', '.join(sorted(self._models))[:300]}")

    def _cut(self, ask: Ask, tokens: int) -> PonderError | None:
        """The error of a prompt whose front the server dropped without a word (Ollama does)."""
        if self._count is not None:
            expected = self._count(ask.messages)
            short = tokens < (1 - SLACK) * expected - SLACK_TOKENS
            told = f"about {expected:,} tokens"
        else:
            size = sum(len(" ".join(message.content.split()).encode("utf-8", "replace")) for message in ask.messages)
            short = size >= ROUGH_BYTES and tokens * MOST_PER_TOKEN < size
            told = f"{size:,} bytes"
        if not short:
            return None
        return ConfigurationError(
            f"the server read {tokens:,} tokens of a prompt of {told}: it cut it, and answered something else",
            where=self._served.name,
            fix="give the server a longer context (Ollama: num_ctx or OLLAMA_CONTEXT_LENGTH; llama.cpp: -c)",
        )
