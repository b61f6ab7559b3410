"""Two tokenisations of one text: spans in bytes, groups that partition both, and nothing aligned that differs."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from cross_tokenizers import byte_level, chats, normalised, sentence_piece, word_piece
from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError
from ponder.models.alignment import Spans, groups, placed, written
from ponder.models.sameness import check_same_manners, manners_differences, same_tokenizer
from ponder.models.token_bytes import TokenBytes, token_bytes
from ponder.models.translation import translation

NAMES = sorted(chats())
SPELLING: dict[str, TokenBytes] = {name: token_bytes(chat.tokenizer) for name, chat in chats().items()}
UNICODE = st.text(st.characters(codec="utf-8"), max_size=40)
PARTS = ["<think>\n", "</think>\n\n", "Anna has 12", " coins", "é", "e\u0301", " ", "\n"]
RESPONSES = st.builds(
    lambda parts: "".join(parts),
    st.lists(st.sampled_from(PARTS) | UNICODE, max_size=6),
)


def spans_of(name: str, text: str) -> tuple[list[bytes | None], Spans]:
    pieces = SPELLING[name].spell(chats()[name].response(text)[:-1])
    return pieces, placed(pieces, text.encode())


def group_bytes(spans: Spans, group: np.ndarray, text: bytes) -> list[bytes]:
    edges = [*spans.starts.tolist(), spans.end]
    found: dict[int, bytes] = {}
    for number, (start, end) in zip(group.tolist(), pairwise(edges), strict=True):
        found[number] = found.get(number, b"") + text[start:end]
    return [found[number] for number in sorted(found)]


@given(RESPONSES, st.sampled_from(NAMES), st.sampled_from(NAMES))
@settings(max_examples=250, deadline=None)
def test_groups_partition_both_sequences_and_spell_equal_bytes(text: str, one: str, other: str) -> None:
    spelt = text.encode()
    (_, first), (_, second) = spans_of(one, text), spans_of(other, text)
    assert first.end == second.end == len(spelt), "every tokenizer here leaves every text as it is"
    a, b = groups(first, second)
    for group in (a, b):
        assert (np.diff(group) >= 0).all()
        assert not len(group) or len(spelt) == 0 or sorted(set(group.tolist())) == list(range(group.max() + 1))
    assert group_bytes(first, a, spelt) == group_bytes(second, b, spelt)
    # As many groups as possible: no boundary that both have is inside of one.
    inner = set(first.starts.tolist()) & set(second.starts.tolist()) - {0, len(spelt)}
    if spelt:
        assert len(set(a.tolist())) == len(inner) + 1


@given(RESPONSES, st.sampled_from(NAMES))
@settings(max_examples=150, deadline=None)
def test_what_the_tokens_spell_is_what_the_chat_reads(text: str, name: str) -> None:
    chat, spelling = chats()[name], SPELLING[name]
    ids = chat.response(text)[:-1]
    found, spans = written(spelling.spell(ids), spelling.strips)
    assert spans.end == len(found.encode()) and len(spans.starts) == len(ids)
    assert found == chat.decode(ids)


@given(st.lists(st.integers(0, 299), max_size=30))
@settings(max_examples=150, deadline=None)
def test_random_tokens_are_text_up_to_what_is_none(ids: list[int]) -> None:
    spelling = SPELLING["small"]
    pieces = spelling.spell(ids)
    found, spans = written(pieces)
    count = len(spans.starts)
    assert b"".join(piece or b"" for piece in pieces[:count]) == found.encode()
    for longer in range(count + 1, len(ids) + 1):  # nothing longer would have been text
        if None in pieces[:longer]:
            break
        with pytest.raises(UnicodeDecodeError):
            b"".join(piece or b"" for piece in pieces[:longer]).decode()


def test_a_character_over_several_tokens_is_one_group() -> None:
    (spelt, first), (pieces, second) = spans_of("bytes", "café"), spans_of("pieces", "café")
    a, b = groups(first, second)
    assert spelt[-2:] == [b"\xc3", b"\xa9"] and a[-2] == a[-1] == b[-1] and (pieces[-1] or b"").endswith("é".encode())
    pieces, _ = spans_of("pieces", "☃")
    assert [piece for piece in pieces if piece != b" "] == [b"\xe2", b"\x98", b"\x83"]


def test_tags_are_one_token_here_and_several_there() -> None:
    text = "<think>\n1\n</think>\n\n2"
    (pieces, first), (spelt, second) = spans_of("small", text), spans_of("untagged", text)
    assert pieces[0] == b"<think>" and b"<think>" not in spelt
    a, b = groups(first, second)
    assert (a == 0).sum() == 1 and b"".join(spelt[i] or b"" for i in (b == 0).nonzero()[0]).lstrip() == b"<think>"


def test_a_space_of_the_tokenizers_own_is_a_phantom() -> None:
    pieces, spans = spans_of("always", "Anna has 12.")
    assert (pieces[0] or b"").startswith(b" ") and spans.phantom[0] and not spans.phantom[1:].any()
    assert spans.starts[0] == 0 and spans.end == len(b"Anna has 12.")


def test_alignment_ends_where_a_normaliser_changes_the_text() -> None:
    chat = Chat(normalised(300, normalizers.NFC()))
    spelling = token_bytes(chat.tokenizer)
    text = "Anna has 12. " + unicodedata.normalize("NFD", "é") + " and more"
    spans = placed(spelling.spell(chat.response(text)[:-1]), text.encode())
    assert spans.end == len(b"Anna has 12. ")
    whole = unicodedata.normalize("NFC", text)
    assert placed(spelling.spell(chat.response(whole)[:-1]), whole.encode()).end == len(whole.encode())


def test_a_token_without_bytes_or_with_other_bytes_ends_what_is_placed() -> None:
    assert placed([b"ab", None, b"c"], b"abc").end == 2
    assert placed([b"ab", b"x"], b"abc").end == 2
    assert placed([], b"abc").end == 0


def test_words_without_their_spaces_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="do not spell"):
        token_bytes(word_piece())


def test_spans_may_begin_at_different_offsets() -> None:
    first = Spans(np.array([4, 6], np.int32), np.zeros(2, np.bool_), 8)
    second = Spans(np.array([0, 5, 6, 7], np.int32), np.zeros(4, np.bool_), 8)
    a, b = groups(first, second)
    assert a.tolist() == [-1, 0] and b.tolist() == [-1, -1, 0, 0]
    early = Spans(np.array([0, 4], np.int32), np.zeros(2, np.bool_), 5)  # could not be placed to the end
    whole = Spans(np.array([0, 4, 6], np.int32), np.zeros(3, np.bool_), 8)
    assert [side.tolist() for side in groups(early, whole)] == [[0, -1], [0, -1, -1]]
    spaces = Spans(np.array([0, 1], np.int32), np.array([False, True]), 1)  # " " and a space of the tokenizer's own
    one = Spans(np.array([0], np.int32), np.zeros(1, np.bool_), 1)
    assert [side.tolist() for side in groups(spaces, one)] == [[0, 0], [0]]
    nothing = Spans(np.zeros(0, np.int32), np.zeros(0, np.bool_), 0)
    assert [side.tolist() for side in groups(nothing, first)] == [[], [-1, -1]]


def test_a_vocabulary_in_the_tokens_of_another() -> None:
    chat, other = chats()["large"], chats()["pieces"]
    found = translation(chat, other, SPELLING["large"], SPELLING["pieces"])
    names = chat.tokenizer.get_vocab()
    assert found.ids[chat.end_id] == other.end_id and found.ids[names["<think>"]] == other.think_open
    assert found.exact[chat.end_id] and 0 < found.shared < 1
    for token, index in names.items():
        mine, theirs = SPELLING["large"].table[index], SPELLING["pieces"].table[int(found.ids[index])]
        if found.exact[index] and mine is not None:
            assert theirs == mine, token
        elif found.ids[index] >= 0 and mine is not None:
            assert theirs is not None and mine.startswith(theirs)
    # A letter is the letter, not the byte that stands for what has no token.
    assert int(found.ids[names["a"]]) not in SPELLING["pieces"].fallback
    assert found.of(np.array([-1, 10**6]))[0].tolist() == [-1, -1]


def test_a_vocabulary_in_its_own_tokens_is_itself() -> None:
    for name in NAMES:
        found = translation(chats()[name], chats()[name], SPELLING[name], SPELLING[name])
        spelt = [i for i, piece in enumerate(SPELLING[name].table) if piece and i not in SPELLING[name].fallback]
        assert found.shared == 1.0 and (found.ids[spelt] == spelt).all(), name


def test_equal_tokenizers_are_recognised() -> None:
    assert same_tokenizer(byte_level(300), byte_level(300))
    again = byte_level.__wrapped__(300)
    assert again is not byte_level(300) and same_tokenizer(again, byte_level(300))
    assert not same_tokenizer(byte_level(300), byte_level(420))
    assert not same_tokenizer(normalised(300, normalizers.NFC()), byte_level(300))
    again.add_tokens(["xyzzy"])
    assert not same_tokenizer(again, byte_level(300))
    assert not same_tokenizer(sentence_piece("always"), sentence_piece("first"))


def test_differences_of_manners_are_listed() -> None:
    student = chats()["small"]
    assert manners_differences(student, Chat(byte_level.__wrapped__(300))) == []
    check_same_manners(student, student)
    other = byte_level.__wrapped__(300)
    template = other.chat_template.replace("assistant\\n' -}}", "assistant\\n<think>\\n' -}}")
    other.chat_template, other.eos_token = template, "<|endoftext|>"
    with pytest.raises(ConfigurationError) as caught:
        check_same_manners(student, Chat(other))
    for part in ("renders a question differently", "stops at", "teacher's prompt opens the thought"):
        assert part in caught.value.what
    other = byte_level.__wrapped__(300)
    other.chat_template = other.chat_template.replace(
        "{{- '<|im_start|>' + message.role",
        "{%- if message.role == 'system' -%}{{- raise_exception('none') -}}{%- endif -%}"
        "{{- '<|im_start|>' + message.role",
    )
    assert [found.split(" (")[0] for found in manners_differences(student, Chat(other))] == [
        "the chat template renders a system message differently"
    ]
