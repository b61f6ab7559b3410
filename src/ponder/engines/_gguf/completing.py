"""One completion by llama.cpp, drawn in as many goes as steering the thought takes."""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ponder.core.answers import split_thinking
from ponder.core.errors import PonderError
from ponder.core.seeds import derive_seed
from ponder.core.types import Completion, Finish, Json, Sampling, Usage
from ponder.engines._gguf.server import LlamaServer
from ponder.engines._gguf.words import Words
from ponder.engines._guidance import llama_grammar
from ponder.engines._steering import Steering, is_steered, refuse_without_tags

LOWEST = -9999.0
"""llama.cpp's word for minus infinity."""
BROKEN = "\ufffd"
"""What stands for bytes that are not yet a character."""
TELL_SECONDS = 0.05
"""Between two looks at a growing text."""
STRIDE = 32
"""Tokens that are drawn in one go: between two goes text is told, and a completion can be cancelled. llama.cpp's own
streams lose the ids of tokens that are no whole characters, so they are not used."""


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
    """Looked at every few tokens; a completion that nobody waits for is left as it is."""


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
    manners = words.manners(ask.sampling.commit)
    if manners is None:
        refuse_without_tags(ask.sampling)
    followed = is_steered(ask.sampling) or ask.sampling.json_schema is not None
    steering = Steering(ask.sampling, manners) if manners is not None and followed else None
    if ask.sampling.json_schema is not None:
        llama_grammar(ask.sampling.json_schema)  # refused before anything is drawn
    drawn = Drawn()
    while not drawn.ended and len(drawn.tokens) < ask.sampling.max_new_tokens and not _cancelled(ask):
        if steering is not None and steering.due:
            drawn.add(Place(-1, 0.0, ()), *steering.take(-1))
        else:
            _draw(server, words, ask, steering, drawn)
    text = _cut(words.decode(drawn.tokens), ask.sampling.stop)
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
            thinking_tokens=words.thinking_tokens(drawn.tokens),
        ),
        seconds=time.monotonic() - began,
    )
    return completion, drawn


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


def _draw(server: LlamaServer, words: Words, ask: Ask, steering: Steering | None, drawn: Drawn) -> None:
    """One go: as far as the engine may run ahead, a stride at most where it is not held to a schema."""
    sampling = ask.sampling
    held = sampling.json_schema is not None and (steering is None or drawn.bare or _is_behind(steering, drawn))
    count = sampling.max_new_tokens - len(drawn.tokens)
    if not held:
        begins = sampling.json_schema is not None and not drawn.tokens and not (steering and steering.inside)
        ahead = steering.ahead if steering is not None else None
        count = min(count, 1 if begins else STRIDE, STRIDE if ahead is None else ahead)
    reply = server.post("/completion", _body(ask, drawn, count, held))
    for place in _read(reply):
        if steering is None or held:
            drawn.add(place, place.token, False)
        elif _first_of_a_bare_answer(sampling, steering, words, drawn, place.token):
            drawn.bare = True
            return
        else:
            token, forced = steering.take(place.token)
            drawn.add(place, token, forced)
            if forced or (sampling.json_schema is not None and not steering.inside):
                return
        if drawn.tokens[-1] in words.stop_ids:
            drawn.ended = True
            return
    drawn.ended = reply.get("stop_type") == "eos"
    _stop(words, sampling.stop, drawn)
    _tell(words, ask, drawn)


def _stop(words: Words, stop: Sequence[str], drawn: Drawn) -> None:
    """End at the token that completes the first stop string."""
    if not stop or not _has(words.decode(drawn.tokens), stop):
        return
    kept = 1 + bisect_left(
        range(1, len(drawn.tokens) + 1), True, key=lambda count: _has(words.decode(drawn.tokens[:count]), stop)
    )
    del drawn.tokens[kept:], drawn.logprobs[kept:], drawn.top[kept:]
    drawn.forced = [place for place in drawn.forced if place < kept]
    drawn.ended = True


def _has(text: str, stop: Sequence[str]) -> bool:
    return any(word and word in text for word in stop)


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
