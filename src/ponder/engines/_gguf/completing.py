"""One completion by llama.cpp, drawn in as many goes as steering the thought takes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ponder.core.seeds import derive_seed
from ponder.core.types import Completion, Finish, Json, Sampling, Usage
from ponder.engines._gguf.server import LlamaServer
from ponder.engines._gguf.words import Words
from ponder.engines._steering import Steering, is_steered, refuse_without_tags

LOWEST = -9999.0
"""llama.cpp's word for minus infinity."""
BROKEN = "\ufffd"
"""What stands for bytes that are not yet a character."""
TELL_SECONDS = 0.05
"""Between two looks at a growing text."""
ENDINGS = ("word", "eos")
"""Why llama.cpp stops by itself: it takes more tokens for ends of a turn than the file names (`<|endoftext|>`)."""
STRIDE = 32
"""Tokens of a thought that are drawn in one go where something else is to begin behind it."""


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
    """Looked at between two tokens; a completion that nobody waits for is left as it is."""

    @property
    def streamed(self) -> bool:
        """Whether somebody looks at it while it is drawn."""
        return self.grown is not None or self.cancelled is not None


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
        ConfigurationError: If a thought is to be steered and the model has no thinking tags, or the server refuses.
        PonderError: If the server fails.
    """
    began = time.monotonic()
    manners = words.manners(ask.sampling.commit)
    if manners is None:
        refuse_without_tags(ask.sampling)
    followed = is_steered(ask.sampling) or ask.sampling.json_schema is not None
    steering = Steering(ask.sampling, manners) if manners is not None and followed else None
    drawn = Drawn()
    while not drawn.ended and len(drawn.tokens) < ask.sampling.max_new_tokens and not _cancelled(ask):
        if steering is not None and steering.due:
            drawn.add(Place(-1, 0.0, ()), *steering.take(-1))
        else:
            _draw(server, words, ask, steering, drawn)
    text = _cut(words.decode(drawn.tokens), ask.sampling.stop)
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
            thinking_tokens=words.thinking_tokens(drawn.tokens),
        ),
        seconds=time.monotonic() - began,
    )
    return completion, drawn


def _draw(server: LlamaServer, words: Words, ask: Ask, steering: Steering | None, drawn: Drawn) -> None:
    """One go: to the end, or as far as the engine may run ahead."""
    sampling = ask.sampling
    held = sampling.json_schema is not None and (steering is None or drawn.bare or _is_behind(steering, drawn))
    count = sampling.max_new_tokens - len(drawn.tokens)
    if not held and steering is not None and steering.ahead is not None:
        count = min(count, steering.ahead)
    if not held and sampling.json_schema is not None:
        count = min(count, STRIDE if drawn.tokens or (steering is not None and steering.inside) else 1)
    with _places(server, _body(ask, drawn, count, held), ask.streamed) as (places, ending):
        for place in places:
            if steering is None or held:
                drawn.add(place, place.token, False)
            elif _first_of_a_bare_answer(sampling, steering, words, drawn, place.token):
                drawn.bare = True
                return
            else:
                token, forced = steering.take(place.token)
                drawn.add(place, token, forced)
                if forced or (sampling.json_schema is not None and not steering.inside):
                    break
            if drawn.tokens[-1] in words.stop_ids:
                drawn.ended = True
                break
            _tell(words, ask, drawn)
            if _cancelled(ask):
                break
        drawn.ended = drawn.ended or ending.get("stop_type") in ENDINGS


def _is_behind(steering: Steering, drawn: Drawn) -> bool:
    """Whether a thought has been closed."""
    return bool(drawn.tokens) and not steering.inside


def _first_of_a_bare_answer(sampling: Sampling, steering: Steering, words: Words, drawn: Drawn, token: int) -> bool:
    """Whether this token begins an answer where a thought might have begun; it is drawn again, held to the schema."""
    waiting = sampling.json_schema is not None and not drawn.tokens and not steering.inside
    return waiting and token != words.think_open


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
        "stop": list(sampling.stop),
        "n_probs": max(1, ask.top),
        "return_tokens": True,
        "cache_prompt": True,
    }
    if held:
        assert sampling.json_schema is not None
        body["json_schema"] = json.loads(sampling.json_schema)
    return body


@contextmanager
def _places(server: LlamaServer, body: Json, streamed: bool) -> Iterator[tuple[Iterator[Place], Json]]:
    """The tokens of a request as they come, and how it ended, once it has."""
    ending: Json = {}
    if not streamed:
        reply = server.post("/completion", body)
        ending.update(reply)
        yield _read(reply), ending
        return

    def coming(events: Iterator[Json]) -> Iterator[Place]:
        for event in events:
            ending.update(event)
            yield from _read(event)

    with server.stream("/completion", body) as events:
        yield coming(events), ending


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


def _tell(words: Words, ask: Ask, drawn: Drawn) -> None:
    """Pass on what has grown, now and then."""
    if ask.grown is None or time.monotonic() - drawn.told_at < TELL_SECONDS:
        return
    ask.grown(settled(words.decode(drawn.tokens), ask.sampling.stop))
    drawn.told_at = time.monotonic()


def settled(text: str, stop: Sequence[str]) -> str:
    """The part of an unfinished text that nothing drawn later can take back."""
    text = _cut(text.rstrip(BROKEN), stop)
    for length in range(max(map(len, stop), default=1) - 1, 0, -1):
        if len(text) >= length and any(word.startswith(text[-length:]) for word in stop):
            return text[:-length]
    return text


def _cut(text: str, stop: Sequence[str]) -> str:
    """Before the first stop string."""
    found = [at for word in stop if word and (at := text.find(word)) >= 0]
    return text[: min(found)] if found else text


def _cancelled(ask: Ask) -> bool:
    return ask.cancelled is not None and ask.cancelled()
