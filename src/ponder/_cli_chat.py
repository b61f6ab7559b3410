"""What `ponder chat` does: a conversation in the terminal, or over a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

from ponder._cli_tasks import printable
from ponder.backends.local import open_sampler
from ponder.core.answers import split_thinking
from ponder.core.errors import ConfigurationError
from ponder.core.parting import Parter
from ponder.core.protocols import Sampler
from ponder.core.seeds import derive_seed
from ponder.core.types import Message, Messages, Sampling

DIM, PLAIN = "\x1b[2m", "\x1b[0m"
HELP = "Ctrl-D or /quit ends, /new forgets the conversation, Ctrl-C stops an answer."


def converse(
    model: str,
    prompt: str | None,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    max_thinking_tokens: int | None = None,
) -> None:
    """Ask once, or keep asking until the input ends.

    Raises:
        ConfigurationError: If there is no such model, or the prompt is empty.
    """
    if prompt is not None and not prompt.strip():
        raise ConfigurationError("the prompt is empty", where="--prompt")
    sampler = open_sampler(model)
    sampling = Sampling(
        temperature=temperature, max_new_tokens=max_new_tokens, max_thinking_tokens=max_thinking_tokens, seed=seed
    )
    if prompt is not None:
        _answer(sampler, [Message(role="user", content=prompt)], sampling)
        return
    history: list[Message] = []
    for question in _questions():
        if question == "/new":
            history = []
            continue
        history.append(Message(role="user", content=question))
        turn = sampling.model_copy(update={"seed": derive_seed(seed, "chat", len(history))})
        try:
            text = _answer(sampler, history, turn)
        except KeyboardInterrupt:
            print()
            history.pop()
            continue
        thought = split_thinking(text)
        reasoning = thought.thinking or None
        history.append(Message(role="assistant", content=thought.answer, reasoning_content=reasoning))


def spans(pieces: Iterable[str]) -> Iterator[tuple[bool, str]]:
    """(is thinking, text) of a stream whose tags may be cut anywhere; tags and the space around both are left out."""
    parter = Parter()
    for piece in pieces:
        yield from parter.feed(piece)
    yield from parter.feed("", last=True)


def _answer(sampler: Sampler, messages: Messages, sampling: Sampling) -> str:
    """Show the answer as it comes, and return all of it with its tags."""
    received: list[str] = []

    def pieces() -> Iterator[str]:
        for piece in _stream(sampler, messages, sampling):
            received.append(piece)
            yield piece

    if not sys.stdout.isatty():  # a pipe gets the text as it is, tags included
        for piece in pieces():
            _write(printable(piece))
    else:
        _show(pieces())
    _write("\n")
    return "".join(received)


def _show(pieces: Iterable[str]) -> None:
    dim = "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    before: bool | None = None
    try:
        for thinking, text in spans(pieces):
            _write("\n\n" if before not in (None, thinking) else "")
            _write(f"{DIM}{printable(text)}{PLAIN}" if thinking and dim else printable(text))
            before = thinking
    finally:
        _write(PLAIN if dim else "")


def _stream(sampler: Sampler, messages: Messages, sampling: Sampling) -> Iterator[str]:
    """Pieces as they are sampled, or the whole text where an engine cannot stream."""
    stream = getattr(sampler, "stream", None)
    if stream is not None:
        return stream(messages, sampling)
    return iter([sampler.generate([messages], 1, sampling)[0][0].text])


def _questions() -> Iterator[str]:
    """Lines from the user until the input ends."""
    talking = sys.stdin.isatty() and sys.stdout.isatty()
    if talking:
        print(HELP)
    while True:
        try:
            line = input("\n> " if talking else "").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if line in ("/quit", "/exit"):
            return
        if line:
            yield line


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
