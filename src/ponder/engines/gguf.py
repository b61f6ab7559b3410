"""Samples from a GGUF file with llama.cpp: what was exported, in the engine that will run it."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue

from ponder.core.errors import ConfigurationError, PonderError
from ponder.core.protocols import Sampler, Watch
from ponder.core.types import Completion, Messages, Sampling, TopK
from ponder.engines._asked import check_room, top_of_rows
from ponder.engines._gguf.completing import LOWEST, Ask, Drawn, complete
from ponder.engines._gguf.server import LlamaServer
from ponder.engines._gguf.words import Words
from ponder.engines._guidance import llama_grammar
from ponder.engines._steering import Manners
from ponder.engines._stops import pieces_of
from ponder.measure.resources import default_threads
from ponder.models.gguf_header import read_header

CERTAIN = 1000.0
"""Bias by which a token is drawn whatever the model says. Of a token that is no whole character llama.cpp would tell
nothing; what it tells is from before the bias."""
SLOTS = 8
"""Completions that are drawn at once."""


class GgufSampler:
    """A GGUF file as `ponder.core.protocols.Runtime`.

    A completion depends on its prompt, the sampling, its seed and its number alone, up to the last bits of sums, which
    llama.cpp adds up in another order when it computes for several at once.

    Args:
        path: The file; its header is checked before llama.cpp sees it.
        name: For traces and reports.
        context: Tokens of a prompt and its answer together; None: as the model has it, at most 4,096.
        slots: Completions that are drawn at once.
        threads: Of arithmetic; None: `PONDER_THREADS`, or all cores but one.

    Raises:
        DataError: If the file is no sound GGUF of a language model.
        UnloadableError: If llama.cpp cannot load it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        name: str = "",
        context: int | None = None,
        slots: int = SLOTS,
        threads: int | None = None,
    ) -> None:
        """Check the file and load it."""
        self.path = Path(path)
        header = read_header(self.path)
        self.name = name or self.path.stem
        self._server = LlamaServer(self.path, header, context, slots, threads or default_threads())
        self._words = Words(self._server, header)
        self._whole = header.whole_token
        self._slots = slots

    def generate(
        self, prompts: Sequence[Messages], samples: int, sampling: Sampling, watch: Watch | None = None
    ) -> list[list[Completion]]:
        """See `ponder.core.protocols.Sampler`.

        Raises:
            ConfigurationError: If a prompt is empty or too long, or a thought is to be steered without thinking tags.
            PonderError: If llama.cpp fails.
        """
        if samples < 1:
            raise ConfigurationError(f"samples is {samples}, and must be at least 1")
        encoded = [tuple(self.prompt(messages)) for messages in prompts]
        for place, ids in enumerate(encoded):
            check_room(ids, sampling, self._server.context, f"prompt {place}")
        halted = threading.Event()
        distinct = list(dict.fromkeys(encoded))
        asks = [
            Ask(ids, sampling.seed, sample, sampling, cancelled=None) for ids in distinct for sample in range(samples)
        ]
        with ThreadPoolExecutor(self._slots) as pool:
            futures = [pool.submit(self._unless, halted, ask) for ask in asks]
            try:
                _watched(futures, watch)
            except BaseException:
                halted.set()
                raise
        found = iter([future.result() for future in futures])
        groups = {ids: [next(found) for _ in range(samples)] for ids in distinct}
        return [list(groups[ids]) for ids in encoded]

    def complete(self, ask: Ask) -> tuple[Completion, Drawn]:
        """One completion; may be called from several threads at once.

        Raises:
            What `generate` raises.
        """
        check_room(ask.ids, ask.sampling, self._server.context, "prompt")
        return complete(self._server, self._words, ask)

    def stream(self, messages: Messages, sampling: Sampling) -> Iterator[str]:
        """The text of sample 0 in pieces, which add up to its text."""
        pieces: SimpleQueue[str | BaseException | None] = SimpleQueue()
        left = threading.Event()
        ids = tuple(self.prompt(messages))
        check_room(ids, sampling, self._server.context, "prompt")
        ask = Ask(ids, sampling.seed, 0, sampling, grown=pieces.put, cancelled=left.is_set)

        def work() -> None:
            try:
                pieces.put(self.complete(ask)[0].text)
                pieces.put(None)
            except BaseException as error:  # whoever reads the pieces raises it
                pieces.put(error)

        threading.Thread(target=work, daemon=True).start()

        def texts() -> Iterator[str]:
            while (text := pieces.get()) is not None:
                if isinstance(text, BaseException):
                    raise text
                yield text

        try:
            yield from pieces_of(texts())
        finally:
            left.set()

    def encode(self, text: str, special: bool = False) -> list[int]:
        """See `Runtime.encode`."""
        return self._words.encode(text, special)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of sampled tokens, as `core.chat.Chat.decode` gives it."""
        return self._words.decode(ids)

    def render(self, messages: Messages, thinking: bool = True) -> str:
        """See `Runtime.render`."""
        return self._words.render(messages, thinking)

    def prompt(self, messages: Messages) -> list[int]:
        """See `Runtime.prompt`."""
        return self._words.prompt(messages)

    def top(self, sequences: Sequence[Sequence[int]], begins: Sequence[int], k: int) -> list[TopK]:
        """See `Runtime.top`; every place is a request of its own, cheap because those before it are in the cache."""
        k = min(k, self._words.vocabulary)
        return [self._top(tokens, begin, k) for tokens, begin in zip(sequences, begins, strict=True)]

    @property
    def positions(self) -> int | None:
        """Tokens of a prompt and its answer together."""
        return self._server.context

    @property
    def slots(self) -> int:
        """Completions that are drawn at once."""
        return self._slots

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return self._words.vocabulary

    @property
    def template(self) -> str:
        """The file's chat template."""
        return self._words.template

    def check(self, sampling: Sampling) -> None:
        """Refuse a way of sampling that this model cannot do, before anything is drawn.

        Raises:
            ConfigurationError: If thoughts are to be steered without thinking tags, or a JSON schema is too large, asks
                for what is not known, or can never be met.
        """
        Manners.of(self._words, sampling)
        if sampling.json_schema is not None:
            llama_grammar(sampling.json_schema)

    def spell(self, ids: Sequence[int]) -> str:
        """Text of tokens as they are, special ones included."""
        return self._words.spell(ids)

    def room(self, messages: Messages) -> int | None:
        """Positions that are left behind a conversation."""
        return self._server.context - len(self.prompt(messages))

    def close(self) -> None:
        """Give back the model's memory."""
        self._server.close()

    def _unless(self, halted: threading.Event, ask: Ask) -> Completion:
        """A completion, unless the call it belongs to has failed."""
        if halted.is_set():
            raise ConfigurationError("halted")  # nobody sees it: the first failure is raised
        return complete(self._server, self._words, ask)[0]

    def _top(self, tokens: Sequence[int], begin: int, k: int) -> TopK:
        rows = [self._expected(tokens[:place], k) for place in range(begin, len(tokens))]
        return top_of_rows(rows, k, self._words.vocabulary)

    def _expected(self, prefix: Sequence[int], k: int) -> list[tuple[int, float]]:
        """(token, log-probability) of the k likeliest tokens behind a prefix."""
        body = {"prompt": list(prefix), "n_predict": 1, "temperature": 0.0, "n_probs": k, "return_tokens": True}
        body |= {"logit_bias": [[self._whole, CERTAIN]], "samplers": [], "cache_prompt": True}
        rows = self._server.post("/completion", body).get("completion_probabilities")
        if not rows:
            raise PonderError("llama.cpp tells no log-probabilities", where=f"position {len(prefix)}")
        told = ((int(row["id"]), float(row["logprob"])) for row in rows[0]["top_logprobs"])
        return [(token, -math.inf if value <= LOWEST else value) for token, value in told]


def _watched(futures: Sequence[Future[Completion]], watch: Watch | None) -> None:
    """Wait for all; the first failure is raised at once."""
    waiting = set(futures)
    tokens = 0
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        tokens += sum(future.result().usage.completion_tokens for future in done)
        if watch is not None:
            watch(len(futures) - len(waiting), tokens)


plugin: type[Sampler] = GgufSampler
