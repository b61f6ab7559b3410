"""Samples from an exported folder with ONNX Runtime GenAI: what was exported, in the engine that will run it."""

# A compiled package without types.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime_genai as genai
import torch

from ponder.core.errors import ConfigurationError, ResourceError
from ponder.core.protocols import Sampler, Watch
from ponder.core.types import Completion, Messages, Sampling, TopK
from ponder.engines._asked import check_room, refuse_schema
from ponder.engines._onnx.drawing import PAD, expectations, grow
from ponder.engines._onnx.words import Words
from ponder.engines._rows import Row, completion_of, rows_of, streamed, top_of
from ponder.engines._stops import Texts
from ponder.measure.resources import default_threads
from ponder.models.genai_config import read_genai_config

BATCH = 32
"""Completions that are drawn at once; the library takes no more."""
WATCH_EVERY = 16
"""Tokens between two looks."""


class OnnxSampler:
    """A folder with `genai_config.json` as `ponder.core.protocols.Runtime`.

    Tokens and prompts are the library's, the choice of tokens is Ponder's: a completion depends on its prompt, the
    sampling, its seed and its number alone, up to the last bits of sums. The same random numbers decide as in the local
    engine.

    Args:
        path: The folder; its configuration is checked before the library sees it.
        name: For traces and reports.
        threads: Of arithmetic; None: `PONDER_THREADS`, or all cores but one.

    Raises:
        DataError: If the folder is damaged, or would load code of its own.
        ResourceError: If ONNX Runtime cannot load it.
    """

    def __init__(self, path: str | Path, *, name: str = "", threads: int | None = None) -> None:
        """Check the folder and load it."""
        genai.disable_telemetry_events()
        self.path = Path(path)
        self._config = read_genai_config(self.path)
        self.name = name or self.path.resolve().name
        count = threads or default_threads()
        settings = {"model": {"pad_token_id": PAD, "decoder": {"session_options": {"intra_op_num_threads": count}}}}
        try:
            config = genai.Config(str(self.path))
            config.overlay(json.dumps(settings))
            self._model: genai.Model | None = genai.Model(config)
        except RuntimeError as error:
            raise ResourceError(f"ONNX Runtime cannot load this model: {error}", where=str(self.path)) from error
        self._words = Words(self.path, self._model, self._config)

    def generate(
        self, prompts: Sequence[Messages], samples: int, sampling: Sampling, watch: Watch | None = None
    ) -> list[list[Completion]]:
        """See `ponder.core.protocols.Sampler`.

        Raises:
            ConfigurationError: If a prompt is empty or too long, or something is asked that this engine cannot do.
            PonderError: If ONNX Runtime fails.
        """
        if samples < 1:
            raise ConfigurationError(f"samples is {samples}, and must be at least 1")
        encoded = [tuple(self.prompt(messages)) for messages in prompts]
        for place, ids in enumerate(encoded):
            check_room(ids, sampling, self._config.context, f"prompt {place}")
        refuse_schema(sampling)
        texts = Texts(self._words, sampling.stop)
        rows = rows_of(list(dict.fromkeys(encoded)), samples, sampling, self._words)
        rows.sort(key=lambda row: len(row.ids))
        groups: dict[tuple[int, ...], list[Completion]] = {ids: [] for ids in encoded}
        for begin in range(0, len(rows), BATCH):
            batch = rows[begin : begin + BATCH]
            began, told = time.monotonic(), sum(map(len, groups.values()))
            for step, unfinished in enumerate(self._grow(texts, batch, sampling)):
                if watch is not None and (step % WATCH_EVERY == 0 or not unfinished):
                    tokens = sum(len(row.tokens) for row in rows)
                    watch(told + len(batch) - unfinished, tokens)
            for row in batch:
                groups[row.ids].append(completion_of(row, texts, began))
        return [list(groups[ids]) for ids in encoded]

    def stream(self, messages: Messages, sampling: Sampling) -> Iterator[str]:
        """The text of sample 0 in pieces, which add up to its text."""
        ids = tuple(self.prompt(messages))
        check_room(ids, sampling, self._config.context, "prompt")
        refuse_schema(sampling)
        (row,) = rows_of([ids], 1, sampling, self._words)
        texts = Texts(self._words, sampling.stop)
        return streamed(row, self._grow(texts, [row], sampling), texts)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """See `Runtime.encode`."""
        return self._words.encode(text, special)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of drawn tokens, as `core.chat.Chat.decode` gives it."""
        return self._words.decode(ids)

    def render(self, messages: Messages, thinking: bool = True) -> str:
        """See `Runtime.render`."""
        return self._words.render(messages, thinking)

    def prompt(self, messages: Messages) -> list[int]:
        """See `Runtime.prompt`."""
        return self._words.prompt(messages)

    def top(self, sequences: Sequence[Sequence[int]], begins: Sequence[int], k: int) -> list[TopK]:
        """See `Runtime.top`."""
        return [self._top(tokens, begin, k) for tokens, begin in zip(sequences, begins, strict=True)]

    @property
    def positions(self) -> int | None:
        """Tokens of a prompt and its answer together."""
        return self._config.context

    def close(self) -> None:
        """Give back the model's memory."""
        self._model = None

    def _grow(self, texts: Texts, rows: Sequence[Row], sampling: Sampling) -> Iterator[int]:
        return grow(self._loaded(), texts, rows, sampling, min(self._words.stop_ids))

    def _loaded(self) -> genai.Model:
        if self._model is None:
            raise ConfigurationError("this engine is closed")
        return self._model

    def _top(self, tokens: Sequence[int], begin: int, k: int) -> TopK:
        k = min(k, self._config.vocabulary)
        if begin >= len(tokens):
            return TopK(np.zeros((0, k), np.int32), np.zeros((0, k), np.float32), np.zeros(0, np.float32))
        if begin < 1 or len(tokens) > self._config.context:
            raise ConfigurationError(f"{len(tokens)} tokens from {begin} on are not within the context")
        logits = torch.from_numpy(expectations(self._loaded(), tokens[:-1])[begin - 1 :])
        return top_of(logits, k)


plugin: type[Sampler] = OnnxSampler
