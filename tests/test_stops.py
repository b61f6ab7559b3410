"""Where a text ends, whatever engine draws it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ponder.core.types import Sampling
from ponder.engines._steering import Manners
from ponder.engines._stops import Texts, pieces_of, thinking_tokens


class Letters:
    """A tokenizer whose tokens are characters; 60 and 62 are the thinking tags, 0 ends a turn."""

    stop_ids = frozenset({0})
    think_open: int | None = 60
    think_close: int | None = 62

    def __init__(self, opens: bool = False) -> None:
        self.prompt_opens_thinking = opens

    def decode(self, ids: Sequence[int]) -> str:
        return ("<think>\n" if self.prompt_opens_thinking else "") + "".join(map(chr, filter(None, ids)))

    def encode_as_text(self, text: str) -> list[int]:
        return [ord(character) for character in text]


def codes(text: str) -> list[int]:
    return [ord(character) for character in text]


@pytest.mark.parametrize(
    ("text", "stop", "settled"),
    [
        ("The en\ufffd", ("end",), "The "),
        ("The end.", ("end",), "The "),
        ("abab", ("abc",), "ab"),
        ("plain", (), "plain"),
        ("plain", ("",), "plain"),
    ],
)
def test_nothing_that_is_told_is_taken_back(text: str, stop: tuple[str, ...], settled: str) -> None:
    assert Texts(Letters(), stop).settled(codes(text)) == settled


def test_what_the_prompt_wrote_stops_nothing() -> None:
    texts = Texts(Letters(opens=True), ("\n", "think"))
    assert texts.text(codes("a + b")) == "<think>\na + b"
    assert not texts.ended(codes("a + b"))
    assert texts.ended(codes("a\n")) and texts.text(codes("a\nb")) == "<think>\na"
    assert texts.ended([97, 0])


def test_pieces_add_up_to_the_last_text() -> None:
    assert list(pieces_of(["", "a", "a", "abc", "abcd"])) == ["a", "bc", "d"]


def test_tags_and_what_stands_between_them_are_thinking() -> None:
    assert thinking_tokens(codes("a<bc>d"), (60, 62), False, {0}) == 4
    assert thinking_tokens([98, 99, 62, 100, 0], (60, 62), True, {0}) == 3
    assert thinking_tokens([60, 98, 0], (60, 62), False, {0}) == 2


def test_the_manners_of_a_model_are_its_readers() -> None:
    reader = Letters(opens=True)
    found = Manners.of(reader, Sampling(max_thinking_tokens=4, commit="So"))
    assert found is not None and found.opened and (found.opening, found.closing) == (60, 62)
    assert found.commit == tuple(codes("\n\nSo"))
    reader.think_close = None
    assert Manners.of(reader, Sampling()) is None
    with pytest.raises(ValueError, match="thinking budget"):
        Manners.of(reader, Sampling(max_thinking_tokens=4))
