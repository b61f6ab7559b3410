"""Samples from an exported `.pte` with ExecuTorch, in a process that has it: one sequence at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError, DataError
from ponder.core.protocols import Sampler, Watch
from ponder.core.types import Completion, Messages, Sampling, TopK
from ponder.engines._asked import check_room, refuse_schema
from ponder.engines._drawing import sequence_key, uniforms
from ponder.engines._executorch.process import Program
from ponder.engines._rows import (
    Row,
    completion_of,
    drawn_tokens,
    finish_of,
    rows_of,
    streamed,
    top_of,
)
from ponder.engines._stops import Texts
from ponder.measure.resources import default_threads
from ponder.models.executorch_config import read_executorch_config
from ponder.models.load import load_tokenizer


class ExecutorchSampler:
    """A folder with `ponder-executorch.json` as `ponder.core.protocols.Runtime`.

    Logits are ExecuTorch's; tokens and prompts are those of the tokenizer and template in the folder, by the library
    that the model was trained with, because ExecuTorch's own runner renders no template.

    Args:
        path: The folder.
        name: For traces and reports.
        threads: Of arithmetic; None: `PONDER_THREADS`, or all cores but one.

    Raises:
        DataError: If the folder is damaged.
        ResourceError: If there is no ExecuTorch here, or it cannot load the program.
    """

    def __init__(self, path: str | Path, *, name: str = "", threads: int | None = None) -> None:
        """Check the folder and start the process."""
        self.path = Path(path)
        self.name = name or self.path.resolve().name
        self._config = read_executorch_config(self.path)
        try:
            self._chat = Chat(load_tokenizer(self.path))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"the tokenizer cannot be read: {error}", where=str(self.path)) from error
        self._program = Program(self.path, self._config, threads or default_threads())

    def generate(
        self, prompts: Sequence[Messages], samples: int, sampling: Sampling, watch: Watch | None = None
    ) -> list[list[Completion]]:
        """See `ponder.core.protocols.Sampler`.

        Raises:
            ConfigurationError: If a prompt is empty or too long, or something is asked that this engine cannot do.
            PonderError: If ExecuTorch fails.
        """
        if samples < 1:
            raise ConfigurationError(f"samples is {samples}, and must be at least 1")
        encoded = [tuple(self.prompt(messages)) for messages in prompts]
        for place, ids in enumerate(encoded):
            check_room(ids, sampling, self._config.context, f"prompt {place}")
        refuse_schema(sampling)
        texts = Texts(self._chat, sampling.stop)
        groups: dict[tuple[int, ...], list[Completion]] = {ids: [] for ids in encoded}
        tokens = 0
        for number, row in enumerate(rows_of(list(groups), samples, sampling, self._chat)):
            began = time.monotonic()
            for _ in self._grow(row, texts, sampling):
                tokens += 1
            groups[row.ids].append(completion_of(row, texts, began))
            if watch is not None:
                watch(number + 1, tokens)
        return [list(groups[ids]) for ids in encoded]

    def stream(self, messages: Messages, sampling: Sampling) -> Iterator[str]:
        """The text of sample 0 in pieces, which add up to its text."""
        ids = tuple(self.prompt(messages))
        check_room(ids, sampling, self._config.context, "prompt")
        refuse_schema(sampling)
        (row,) = rows_of([ids], 1, sampling, self._chat)
        texts = Texts(self._chat, sampling.stop)
        return streamed(row, self._grow(row, texts, sampling), texts)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """See `Runtime.encode`."""
        return self._chat.encode(text) if special else self._chat.encode_as_text(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of drawn tokens."""
        return self._chat.decode(ids)

    def render(self, messages: Messages, thinking: bool = True) -> str:
        """See `Runtime.render`."""
        return self._chat.render(messages, thinking=thinking)

    def prompt(self, messages: Messages) -> list[int]:
        """See `Runtime.prompt`."""
        return self._chat.prompt(messages)

    def top(self, sequences: Sequence[Sequence[int]], begins: Sequence[int], k: int) -> list[TopK]:
        """See `Runtime.top`."""
        k = min(k, self._config.vocabulary)
        return [self._top(tokens, begin, k) for tokens, begin in zip(sequences, begins, strict=True)]

    @property
    def positions(self) -> int | None:
        """Tokens of a prompt and its answer together."""
        return self._config.context

    def close(self) -> None:
        """End the process."""
        self._program.close()

    def _grow(self, row: Row, texts: Texts, sampling: Sampling) -> Iterator[None]:
        """Draw a row to its end, one token at a time."""
        key = torch.tensor([sequence_key(sampling.seed, row.ids, row.sample)])
        logits = self._program.logits(row.ids, 0)
        while True:
            place = len(row.tokens)
            drawn = drawn_tokens(logits, sampling, uniforms(key, torch.tensor(place)))
            row.take(int(drawn.tokens[0]), float(drawn.logprobs[0]))
            row.finish = finish_of(row, texts, sampling)
            yield
            if row.finish is not None:
                return
            logits = self._program.logits(row.tokens[-1:], len(row.ids) + place)

    def _top(self, tokens: Sequence[int], begin: int, k: int) -> TopK:
        if begin >= len(tokens):
            return top_of(torch.zeros(0, self._config.vocabulary), k)
        if begin < 1 or len(tokens) > self._config.context:
            raise ConfigurationError(f"{len(tokens)} tokens from {begin} on are not within the context")
        rows = [self._program.logits(tokens[:begin], 0)]
        if begin + 1 < len(tokens):
            rows.append(self._program.logits(tokens[begin:-1], begin, each=True))
        return top_of(torch.cat(rows), k)


plugin: type[Sampler] = ExecutorchSampler
