"""Samples any model behind an OpenAI-compatible address: hosted, vLLM, llama.cpp, Ollama or Ponder's own server.

Every sample is a request under a seed of its own. What was bought is journalled as it comes, under a name made of all
that decides the answer, and is never bought again; see `docs/teachers.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Sampler, Watch
from ponder.core.types import Caps, Completion, Json, Messages, Sampling
from ponder.engines._openai.accounts import Account
from ponder.engines._openai.asks import Ask, asks_for
from ponder.engines._openai.batches import Batches
from ponder.engines._openai.buying import Buyer
from ponder.engines._openai.doubts import Counting, Doubts
from ponder.engines._openai.keys import key_for
from ponder.engines._openai.loop import run
from ponder.engines._openai.probe import KIND, findings, probes
from ponder.engines._openai.purchases import Totals
from ponder.engines._openai.served import Served, read_served
from ponder.measure.costs.prices import PriceSheet, price_sheet


class OpenAISampler:
    """A served model as a sampler; completions have no tokens of ours.

    Args:
        served: The model, as a record or in one line (`openai:MODEL@URL?option=value`).
        purchases: Folder of the journal of what was bought; None buys for this process only.
        caps: What may be used up over all attempts that share the journal.
        count: Counts the tokens of a prompt, to notice a server that cuts it.
        sheet: Prices; None reads the shipped ones and the user's.
        environment: Where keys are looked for; None is the process's own.

    Raises:
        ConfigurationError: If the address, an option, the key or a cap cannot be used; nothing was sent.
        DataError: If the journal is damaged.
    """

    def __init__(
        self,
        served: Served | str,
        *,
        purchases: Path | None = None,
        caps: Caps | None = None,
        count: Counting | None = None,
        sheet: PriceSheet | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.served = served if isinstance(served, Served) else read_served(served, environment)
        self.name = self.served.name
        key = key_for(self.served, environment)
        self._account = Account(self.served, purchases, caps, sheet or price_sheet())
        self._doubts = Doubts(self.served, count)
        self._buyer = Buyer(self.served, key, self._account, self._doubts)
        self._batches = Batches(self.served, key, self._account)
        noted = [note for note in self._account.purchases.notes if note["kind"] == KIND]
        self._probed: Json | None = noted[-1]["found"] if noted else None

    @property
    def totals(self) -> Totals:
        """What was used up since the first attempt, earlier processes included."""
        return self._account.totals

    @property
    def notes(self) -> Json:
        """What a report should say about the server: warnings, failures by message, requests sent by this process."""
        return {
            "warnings": list(self._doubts.notes),
            "failures": dict(self._doubts.failures),
            "requests_sent": self._buyer.attempts,
            "probe": self._probed,
        }

    def generate(
        self, prompts: Sequence[Messages], samples: int, sampling: Sampling, watch: Watch | None = None
    ) -> list[list[Completion]]:
        """See `ponder.core.protocols.Sampler`; how it ends early: see `Buyer.buy`."""
        if samples < 1:
            raise ConfigurationError(f"samples is {samples}, and must be at least 1")
        flat = self._answers(prompts, samples, [sampling] * len(prompts), watch)
        return [flat[start : start + samples] for start in range(0, len(flat), samples)]

    def generate_each(
        self, prompts: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, watch: Watch | None = None
    ) -> list[Completion]:
        """One completion for every prompt, each under a seed of its own."""
        samplings = [sampling.model_copy(update={"seed": seed}) for seed in seeds]
        return self._answers(prompts, 1, samplings, watch)

    def _answers(
        self, prompts: Sequence[Messages], samples: int, samplings: Sequence[Sampling], watch: Watch | None
    ) -> list[Completion]:
        """Completions, sample by sample and prompt by prompt: those that were bought before, and the others."""
        asks = asks_for(self.served, prompts, samples, samplings)
        keys = [key for ask in asks for key in ask.keys]
        found = {key: had for key in set(keys) if (had := self._account.purchases.get(key)) is not None}
        told = _Telling(watch, found.values())
        missing = _missing(asks, found)
        if missing:
            self._account.caps.start()
            try:
                if self.served.probe and self._probed is None:
                    self._probe()
                if self.served.batch:
                    found |= run(self._batches.collect(missing, told))
                    missing = _missing(asks, found)
                found |= run(self._buyer.buy(missing, told)) if missing else {}
            finally:
                self._account.caps.pause()
                self._account.purchases.note("clock", seconds=round(self._account.caps.seconds, 3))
        return [found[key] for key in keys]

    def _probe(self) -> None:
        """Find out what the server honours; asked once for a journal, and noted in it."""
        asks = probes(self.served)
        found = run(self._buyer.buy(asks, _Telling(None, ())))
        self._probed = dict(findings(self.served, asks, found, self._doubts.say))
        self._account.purchases.note(KIND, found=self._probed)


class _Telling:
    """Passes on how far it has come."""

    def __init__(self, watch: Watch | None, had: Any) -> None:
        self._watch = watch
        self._finished = self._tokens = 0
        for completion in had:
            self._finished += 1
            self._tokens += completion.usage.completion_tokens

    def __call__(self, completion: Completion) -> None:
        self._finished += 1
        self._tokens += completion.usage.completion_tokens
        if self._watch is not None:
            self._watch(self._finished, self._tokens)


def _missing(asks: Sequence[Ask], found: Mapping[str, Completion]) -> list[Ask]:
    """What is still to be asked, each answer once: equal questions have equal answers."""
    missing: list[Ask] = []
    taken = set(found)
    for ask in asks:
        wanted = [index for index, key in enumerate(ask.keys) if key not in taken]
        taken.update(ask.keys)
        missing += [ask] if len(wanted) == len(ask.keys) else [ask.single(index) for index in wanted]
    return missing


plugin: type[Sampler] = OpenAISampler
