"""Runtimes that stand for an artefact: one that is its model, and some that are not."""

from __future__ import annotations

from collections.abc import Sequence

from ponder.core.chat import Chat
from ponder.core.protocols import Watch
from ponder.core.types import Completion, Messages, Problem, Sampling, TopK, Trace, Verdict
from ponder.engines._teachers import LocalTeacher
from ponder.engines.local import LocalSampler
from ponder.models.load import LoadedModel


class Twin:
    """A runtime that does what its model does."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.name, self.chat = "twin", loaded.chat
        self._sampler = LocalSampler(loaded.model, loaded.chat)
        self._teacher = LocalTeacher(loaded.model)
        self.closed = False

    def generate(
        self, prompts: Sequence[Messages], samples: int, sampling: Sampling, watch: Watch | None = None
    ) -> list[list[Completion]]:
        return self._sampler.generate(prompts, samples, sampling, watch)

    def encode(self, text: str, special: bool = False) -> list[int]:
        return self.chat.encode(text) if special else self.chat.encode_as_text(text)

    def render(self, messages: Messages, thinking: bool = True) -> str:
        return self.chat.render(messages, thinking=thinking)

    def prompt(self, messages: Messages) -> list[int]:
        return self.chat.prompt(messages)

    def top(self, sequences: Sequence[Sequence[int]], begins: Sequence[int], k: int) -> list[TopK]:
        found = []
        for tokens, begin in zip(sequences, begins, strict=True):
            completion = Completion(
                text="", finish="stop", prompt_tokens=tuple(tokens[:begin]), tokens=tuple(tokens[begin:])
            )
            problem = Problem(id="0", task="t", prompt="p")
            trace = Trace(problem=problem, completion=completion, verdict=Verdict(outcome="unknown", reward=0.0))
            whole = self._teacher.top([trace], k)[0]
            found.append(TopK(whole.ids[begin:], whole.logprobs[begin:], whole.tail[begin:]))
        return found

    @property
    def positions(self) -> int | None:
        return self._sampler.positions

    def close(self) -> None:
        self.closed = True


def other_template(chat: Chat, template: str) -> Chat:
    """The same tokenizer with another template."""
    other = Chat(chat.tokenizer)
    other.template = template
    return other
