"""One completion by llama.cpp, drawn in as many goes as steering the thought takes."""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ponder.core.answers import split_thinking
from ponder.core.errors import PonderError
from ponder.core.seeds import derive_seed
from ponder.core.types import Completion, Finish, Json, Sampling, Usage
from ponder.engines._gguf.server import LlamaServer
from ponder.engines._gguf.words import Words
from ponder.engines._guidance import llama_grammar
from ponder.engines._steering import Manners, Steering, is_steered
from ponder.engines._stops import Texts

LOWEST = -9999.0
"""llama.cpp's word for minus infinity."""
TELL_SECONDS = 0.05
"""Between two looks at a growing text."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A completion that is asked for."""

    ids: tuple[int, ...]
    """The prompt."""
    seed: int
    sample: int
    sampling: Sampling
    top: int = 0
    """Likeliest tokens that are told beside each drawn one."""
    grown: Callable[[str], None] | None = None
    """Told the text, as far as nothing can take it back."""
    cancelled: Callable[[], bool] | None = None
    """Looked at several times a second; a completion that nobody waits for is left as it is."""


@dataclass(frozen=True, slots=True)
class Place:
    """A token as llama.cpp drew it."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    """(token, log-probability) of the likeliest."""


@dataclass(slots=True)
class Drawn:
    """What is drawn of a completion so far."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    forced: list[int] = field(default_factory=list)
    top: list[tuple[tuple[int, float], ...]] = field(default_factory=list)
    ended: bool = False
    bare: bool = False
    """No thought was begun, though one might have been: the answer comes at once."""
    told_at: float = 0.0

    def add(self, place: Place, token: int, forced: bool) -> None:
        """Append a token; a forced one has no log-probability."""
        if forced:
            self.forced.append(len(self.tokens))
        self.tokens.append(token)
        self.logprobs.append(0.0 if forced else place.logprob)
        self.top.append(place.top)


def complete(server: LlamaServer, words: Words, ask: Ask) -> tuple[Completion, Drawn]:
    """Draw it.

    Raises:
        ConfigurationError: If a thought is to be steered and the model has no thinking tags, a schema cannot be held
            to, or the server refuses.
        PonderError: If the server fails.
    """
    began = time.monotonic()
    if ask.sampling.json_schema is not None:
        llama_grammar(ask.sampling.json_schema)  # refused before anything is drawn
    drawing = _Drawing(server, words, ask)
    drawn, texts = drawing.run(), drawing.texts
    text = texts.text(drawn.tokens)
    if drawn.ended and ask.sampling.json_schema is not None and not ask.sampling.stop:
        _require_json(split_thinking(text)[1])
    completion = Completion(
        text=text,
        finish=Finish.STOP if drawn.ended else Finish.LENGTH,
        prompt_tokens=ask.ids,
        tokens=tuple(drawn.tokens),
        logprobs=tuple(drawn.logprobs),
        forced=tuple(drawn.forced),
        usage=Usage(
            prompt_tokens=len(ask.ids),
            completion_tokens=len(drawn.tokens),
            thinking_tokens=texts.thinking_tokens(drawn.tokens),
        ),
        seconds=time.monotonic() - began,
    )
    return completion, drawn


class _Drawing:
    """One completion while it grows."""

    def __init__(self, server: LlamaServer, words: Words, ask: Ask) -> None:
        """Before the first token."""
        self._server, self._words, self._ask = server, words, ask
        self._sampling, self._schema = ask.sampling, ask.sampling.json_schema is not None
        self.texts = Texts(words, ask.sampling.stop)
        self._drawn = Drawn()
        manners = Manners.of(words, ask.sampling) if is_steered(ask.sampling) or self._schema else None
        self._steering = Steering(ask.sampling, manners) if manners is not None else None

    def run(self) -> Drawn:
        """Draw to the end, or until nobody waits for it."""
        drawn, steering = self._drawn, self._steering
        while not drawn.ended and len(drawn.tokens) < self._sampling.max_new_tokens and not self._is_cancelled():
            if steering is not None and steering.due:
                drawn.add(Place(-1, 0.0, ()), *steering.take(-1))
            else:
                self._go()
        return drawn

    def _go(self) -> None:
        """As far as the engine may run ahead, a stride at most where it is not held to a schema.

        llama.cpp's own streams lose the ids of tokens that are no whole characters, so they are not used.
        """
        drawn, steering = self._drawn, self._steering
        held = self._schema and (steering is None or drawn.bare or self._is_behind(steering))
        count = self._sampling.max_new_tokens - len(drawn.tokens)
        if not held:
            ahead = steering.ahead if steering is not None else None
            stride = 1 if self._waits_for_a_thought() else self._server.stride
            count = min(count, stride, stride if ahead is None else ahead)
        reply = self._server.complete(_body(self._ask, drawn, count, held), self._ask.cancelled)
        if reply is None:
            return
        whole = self._take(_read(reply), held)
        drawn.ended = drawn.ended or (whole and reply.get("stop_type") == "eos")
        self._stop()
        self._tell()

    def _take(self, places: Iterable[Place], held: bool) -> bool:
        """Append what was drawn, up to where something else has to stand; whether all of it was appended."""
        drawn, steering = self._drawn, self._steering
        for place in places:
            if steering is None or held:
                drawn.add(place, place.token, False)
            elif self._waits_for_a_thought() and place.token != self._words.think_open:
                drawn.bare = True  # it begins an answer, and is drawn again, held to the schema
                return False
            else:
                token, forced = steering.take(place.token)
                drawn.add(place, token, forced)
                if forced or (self._schema and not steering.inside):
                    return False
            if drawn.tokens[-1] in self._words.stop_ids:
                drawn.ended = True
                return True
        return True

    def _waits_for_a_thought(self) -> bool:
        """Whether the next token may begin a thought, before an answer that is held to a schema."""
        begins = self._schema and not self._drawn.tokens
        return begins and not (self._steering is not None and self._steering.inside)

    def _is_behind(self, steering: Steering) -> bool:
        """Whether a thought has been closed."""
        return bool(self._drawn.tokens) and not steering.inside

    def _stop(self) -> None:
        """End at the token that completes the first stop string."""
        drawn, met = self._drawn, self.texts.met
        if not met(drawn.tokens):
            return
        kept = 1 + bisect_left(range(1, len(drawn.tokens) + 1), True, key=lambda count: met(drawn.tokens[:count]))
        del drawn.tokens[kept:], drawn.logprobs[kept:], drawn.top[kept:]
        drawn.forced = [place for place in drawn.forced if place < kept]
        drawn.ended = True

    def _tell(self) -> None:
        """Pass on what has grown, now and then."""
        if self._ask.grown is None or time.monotonic() - self._drawn.told_at < TELL_SECONDS:
            return
        self._ask.grown(self.texts.settled(self._drawn.tokens))
        self._drawn.told_at = time.monotonic()

    def _is_cancelled(self) -> bool:
        return self._ask.cancelled is not None and self._ask.cancelled()


def _require_json(answer: str) -> None:
    """Refuse an answer that was to be held to a schema and is no JSON: llama.cpp does not say when it drops a grammar.

    Raises:
        PonderError: If it is none.
    """
    if not answer.strip():
        return
    try:
        json.loads(answer)
    except ValueError as error:
        raise PonderError("llama.cpp did not hold the answer to its schema", fix="use a simpler schema") from error


def _body(ask: Ask, drawn: Drawn, count: int, held: bool) -> Json:
    """The request: exactly the ways of sampling that were asked for, and no other of llama.cpp's."""
    sampling = ask.sampling
    prompt = [*ask.ids, *drawn.tokens]
    seed = derive_seed(ask.seed, "gguf", json.dumps(list(ask.ids)), ask.sample, len(drawn.tokens))
    body: Json = {
        "prompt": prompt,
        "n_predict": count,
        "temperature": sampling.temperature,
        "samplers": ["top_k", "top_p", "temperature"],
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": 0.0,
        "repeat_penalty": 1.0,
        "seed": seed % 2**32,
        "n_probs": max(1, ask.top),
        "return_tokens": True,
        "cache_prompt": True,
    }
    if held:
        assert sampling.json_schema is not None
        body["grammar"] = llama_grammar(sampling.json_schema)
    return body


def _read(reply: Json) -> Iterator[Place]:
    """Tokens with their log-probabilities; of a token in the middle of a character nothing is told, so it has none."""
    told = {}
    rows: Sequence[Json] = reply.get("completion_probabilities") or ()
    place = 0
    for token in reply.get("tokens") or ():
        told = rows[place] if place < len(rows) and rows[place]["id"] == token else None
        if told is None:
            yield Place(int(token), LOWEST, ())
            continue
        place += 1
        top = tuple((int(row["id"]), float(row["logprob"])) for row in told["top_logprobs"])
        yield Place(int(token), float(told["logprob"]), top)
