"""A teacher with another tokenizer: exact where it can be, sums that are the teacher's own, and silence elsewhere."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers
from transformers import Qwen3Config, Qwen3ForCausalLM

from cross_tokenizers import byte_level, chats, normalised, word_piece
from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError
from ponder.core.types import Completion, Group, Problem, TopK, Trace, Verdict
from ponder.engines._cross_teacher import CrossTeacher, Rung, rung_of
from ponder.engines._pairing import Pairer
from ponder.engines._teachers import LocalTeacher
from ponder.engines.local import LocalReference
from ponder.models import attention
from ponder.models.token_bytes import token_bytes
from ponder.objectives.kd import KD
from ponder.objectives.opd import OPD

SOLUTION = "<think>\nAnna has 12 coins. She finds 7 more: 12 + 7 = 19.\n</think>\n\nThe answer is 19."
TEXTS = [SOLUTION, "The answer is 27.", "Déjà vu ☃: no animal is a stone.\n\n\nTherefore, e\u0301.", ""]
PAIRS = [(one, other) for one in ("small", "large", "pieces", "untagged", "llama") for other in chats() if one != other]


@cache
def model(size: int) -> Qwen3ForCausalLM:
    """Random weights whose distributions are far from even."""
    attention.register()
    torch.manual_seed(size)
    config = Qwen3Config(
        vocab_size=size, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=512, tie_word_embeddings=True,
        initializer_range=0.3, pad_token_id=0,
        attn_implementation=attention.NAME,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).eval()


def local(chat: Chat) -> LocalTeacher:
    return LocalTeacher(model(len(chat.tokenizer)))


def cross(teacher: str, student: str) -> CrossTeacher:
    return CrossTeacher(local(chats()[teacher]), chats()[teacher], chats()[student])


def trace(chat: Chat, text: str, *, tokens: tuple[int, ...] | None = None, logprobs: bool = True) -> Trace:
    problem = Problem(id=text, task="t", prompt="How many coins has Anna?", answer="19")
    tokens = tuple(chat.response(text)) if tokens is None else tokens
    rng = np.random.default_rng(len(tokens))
    completion = Completion(
        text=text,
        prompt_tokens=tuple(chat.prompt(problem.messages)),
        tokens=tokens,
        logprobs=tuple((-rng.exponential(1.0, len(tokens))).tolist()) if logprobs else None,
    )
    return Trace(problem=problem, completion=completion, verdict=Verdict.correct("19"))


def start_of(one: Trace) -> int:
    return len(one.completion.prompt_tokens or ())


@pytest.mark.parametrize("name", ["small", "large"])
def test_for_its_own_tokenizer_it_says_what_the_teacher_says(name: str) -> None:
    chat = chats()[name]
    traces, teacher = [trace(chat, text) for text in TEXTS], cross(name, name)
    for found, exact in zip(teacher.logprobs(traces), local(chat).logprobs(traces), strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-6)
    for k in (1, 8, 10_000):
        for found, exact in zip(teacher.top(traces, k), local(chat).top(traces, k), strict=True):
            assert found.ids.shape == exact.ids.shape and (found.ids == exact.ids).mean() > 0.999  # equals may swap
            np.testing.assert_allclose(found.logprobs, exact.logprobs, atol=1e-5)
            np.testing.assert_allclose(found.tail, exact.tail, atol=1e-5)
    coverage = teacher.coverage
    assert coverage.aligned_share == coverage.single_share == coverage.row_share == 1.0 and not coverage.reasons


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_the_sum_over_a_completion_is_the_teachers_own(teacher: str, student: str) -> None:
    theirs, ours = chats()[teacher], chats()[student]
    asked = cross(teacher, student)
    for text in TEXTS:
        one = trace(ours, text)
        (found,) = asked.logprobs([one])
        prompt, response = theirs.prompt(one.problem.messages), theirs.response(text)
        (whole,) = LocalReference(model(len(theirs.tokenizer))).logprobs([[*prompt, *response]])
        start = start_of(one)
        assert np.isnan(found[:start]).all() and np.isfinite(found[start:]).all(), (text, asked.coverage.reasons)
        assert found[start:].sum() == pytest.approx(whole[len(prompt) :].sum(), abs=1e-4)
    assert asked.coverage.aligned_share == 1.0


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_a_row_adds_up_to_one_and_holds_each_token_once(teacher: str, student: str) -> None:
    asked = cross(teacher, student)
    if asked.rung is Rung.SAMPLED:
        return
    traces = [trace(chats()[student], text) for text in TEXTS]
    for k in (1, 4, 64):
        for one, found in zip(traces, asked.top(traces, k), strict=True):
            told = (found.ids >= 0).any(1)
            assert not told[: start_of(one)].any()
            total = np.exp(found.logprobs[told]).sum(1) + np.exp(found.tail[told])
            np.testing.assert_allclose(total, 1.0, atol=1e-5)
            assert (found.logprobs[found.ids < 0] == -np.inf).all()
            for ids in found.ids[told]:
                assert len(set(ids[ids >= 0].tolist())) == (ids >= 0).sum()
            assert not told.any() or found.ids.max() < len(chats()[student].tokenizer)
    coverage = asked.coverage
    assert 0 < coverage.row_share <= 1
    total = coverage.exact + coverage.begun + coverage.lost + coverage.unlisted
    assert total == pytest.approx(coverage.rows, rel=1e-5) and coverage.begun >= 0


def test_tokens_of_a_padded_head_are_in_the_tail() -> None:
    chat = chats()["small"]
    padded = LocalTeacher(model(len(chat.tokenizer) + 40))
    (found,) = CrossTeacher(padded, chat, chat).top([trace(chat, SOLUTION)], 10_000)
    (exact,) = padded.top([trace(chat, SOLUTION)], 10_000)
    mass = np.where(exact.ids >= len(chat.tokenizer), np.exp(exact.logprobs), 0.0).sum(1)
    told = (exact.ids >= 0).any(1)
    np.testing.assert_allclose(np.exp(found.tail[told]), mass[told], atol=1e-5)
    assert mass[told].max() > 0.01 and found.ids.max() < len(chat.tokenizer)


class Says:
    """A teacher of four tokens a row: what it was told."""

    def __init__(self, rows: list[dict[int, float]]) -> None:
        self.rows = rows

    def logprobs(self, traces: Any) -> list[Any]:
        raise NotImplementedError

    def top(self, traces: Any, k: int) -> list[TopK]:
        (one,) = traces
        start, count = start_of(one), len(one.completion.tokens)
        assert count == len(self.rows), "the test must speak about every token that the teacher reads"
        ids, masses = np.full((start + count, 4), -1, np.int32), np.zeros((start + count, 4))
        for place, row in enumerate(self.rows, start):
            ids[place, : len(row)], masses[place, : len(row)] = list(row), list(row.values())
        with np.errstate(divide="ignore"):
            return [TopK(ids, np.log(masses).astype(np.float32), np.log(1 - masses.sum(1)).astype(np.float32))]


def told(teacher: str, student: str, text: str, rows: list[dict[bytes, float]]) -> list[dict[bytes, float]]:
    """What a teacher's rows, by the bytes of its tokens, say to a student, by the bytes of its tokens."""
    theirs, ours = chats()[teacher], chats()[student]
    spelling, own = token_bytes(theirs.tokenizer), token_bytes(ours.tokenizer)
    by_bytes = {piece: i for i, piece in enumerate(spelling.table) if piece} | {b"END": theirs.end_id}
    asked = CrossTeacher(Says([{by_bytes[p]: m for p, m in row.items()} for row in rows]), theirs, ours)
    one = trace(ours, text)
    (found,) = asked.top([one], 4)
    names = dict(enumerate(own.table)) | {ours.end_id: b"END"}
    return [
        {names[i] or b"": round(float(np.exp(m)), 4) for i, m in zip(ids.tolist(), row, strict=True) if i >= 0}
        for ids, row in zip(found.ids[start_of(one) :], found.logprobs[start_of(one) :], strict=True)
    ]


def test_what_is_one_token_for_the_teacher_begins_with_the_students_first() -> None:
    # " coins" is one token of the large vocabulary and several of the small one.
    pieces = token_bytes(chats()["small"].tokenizer).spell(chats()["small"].response(" coins")[:-1])
    assert len(pieces) > 1 and pieces[0] is not None
    found = told("large", "small", " coins", [{b" coins": 0.7, b" cat": 0.2}, {b"END": 0.9}])
    cat = token_bytes(chats()["small"].tokenizer).spell(chats()["small"].response(" cat")[:-1])[0] or b""
    assert found[0] == ({pieces[0]: 0.9} if cat == pieces[0] else {pieces[0]: 0.7, cat: 0.2})
    assert found[1:] == [*[{}] * (len(pieces) - 1), {b"END": 0.9}], "within the group it says nothing"


def test_what_is_several_tokens_for_the_teacher_is_their_product() -> None:
    spelling = token_bytes(chats()["small"].tokenizer)
    pieces = spelling.spell(chats()["small"].response(" coins")[:-1])
    first, rest = pieces[0] or b"", pieces[1:]
    rows = [{first: 0.8, b" ": 0.1}, *({piece or b"": 0.5} for piece in rest), {b"END": 0.6}]
    merged = round(0.8 * 0.5 ** len(rest), 4)
    found = told("small", "large", " coins", rows)
    assert found[0] == {first: pytest.approx(0.8 - merged), b" coins": pytest.approx(merged), b" ": 0.1}
    assert found[1] == {b"END": 0.6}
    # A part that the teacher did not list is too small to be merged.
    found = told("small", "large", " coins", [rows[0], *({b"x": 0.5} for _ in rest), rows[-1]])
    assert found[0] == {first: 0.8, b" ": 0.1}


def test_a_spelling_in_more_tokens_than_needed_is_no_statement_for_it() -> None:
    # The student wrote byte by byte what is one token for both: the teacher's mass stays with the one token.
    ours = chats()["large"]
    letters = tuple(ours.tokenizer.get_vocab()[letter] for letter in "Ġcoins")
    one = trace(ours, " coins", tokens=(*letters, ours.end_id))
    (found,) = cross("large", "large").top([one], 400)
    (exact,) = local(ours).top([trace(ours, " coins")], 400)
    word = ours.response(" coins")[0]
    row, own = start_of(one), exact.ids[start_of(one)].tolist()
    assert found.logprobs[row, found.ids[row].tolist().index(word)] == pytest.approx(
        exact.logprobs[row, own.index(word)], abs=1e-5
    )


def test_a_groups_sum_is_divided_by_the_students_surprise() -> None:
    one = trace(chats()["bytes"], SOLUTION)
    (found,), (even,) = (
        cross("large", "bytes").logprobs([t]) for t in (one, trace(chats()["bytes"], SOLUTION, logprobs=False))
    )
    start = start_of(one)
    assert found[start:].sum() == pytest.approx(even[start:].sum(), abs=1e-3)
    own = np.array(one.completion.logprobs)
    pairing = cross("large", "bytes")._pairings([one])[0]
    for group in range(pairing.ours.max() + 1):
        inside = pairing.ours == group
        share = found[start:][inside] / found[start:][inside].sum()
        np.testing.assert_allclose(share, (0.01 - own[inside]) / (0.01 - own[inside]).sum(), rtol=1e-4)
        gaps = found[start:][inside] - own[inside] + 0.01
        assert (gaps > -0.02).all() or (gaps < 0.02).all(), "no token of a group is praised while another is blamed"
        np.testing.assert_allclose(even[start:][inside], even[start:][inside].mean(), rtol=1e-4)


def test_a_truncated_completion_has_no_end_and_is_read_to_its_last_whole_character() -> None:
    chat = chats()["bytes"]
    tokens = tuple(chat.response("The café")[:-2])  # cut within the é
    (found,) = cross("large", "bytes").logprobs([trace(chat, "The caf", tokens=tokens)])
    start = len(found) - len(tokens)
    assert np.isfinite(found[start:-1]).all() and np.isnan(found[-1])
    theirs = chats()["large"]
    prompt, response = theirs.prompt(trace(chat, "").problem.messages), theirs.response("The caf")[:-1]
    (whole,) = LocalReference(model(len(theirs.tokenizer))).logprobs([[*prompt, *response]])
    assert found[start:-1].sum() == pytest.approx(whole[len(prompt) :].sum(), abs=1e-4)


def test_what_is_no_text_is_not_spoken_of() -> None:
    chat, asked = chats()["small"], cross("large", "small")
    head, tail = chat.response("The answer")[:-1], chat.response(" is 27.")
    opener = chat.tokenizer.convert_tokens_to_ids("<|im_start|>")
    byte = chat.tokenizer.convert_tokens_to_ids("ÿ")  # 0xFF, never UTF-8
    for token, reason in ((opener, "special token"), (byte, "no text"), (len(chat.tokenizer) + 1, "special token")):
        asked = cross("large", "small")
        (found,) = asked.logprobs([trace(chat, "x", tokens=(*head, token, *tail))])
        start = len(found) - len(head) - 1 - len(tail)
        assert np.isfinite(found[start : start + len(head)]).all() and np.isnan(found[start + len(head) :]).all()
        assert [reason in why for why in asked.coverage.reasons] == [True]
        assert "not fully read of 1 traces" in asked.coverage.sentence()


def test_another_prompt_than_the_problems_is_not_answered() -> None:
    chat, asked = chats()["small"], cross("large", "small")
    one = trace(chat, SOLUTION)
    other = one.model_copy(update={"completion": one.completion.model_copy(update={"prompt_tokens": (5, 6, 7)})})
    (found,) = asked.logprobs([other])
    assert np.isnan(found).all() and asked.coverage.aligned_share == 0.0
    (top,) = asked.top([other], 4)
    assert (top.ids == -1).all() and len(top.ids) == len(found)
    assert asked.coverage.sentence().endswith("2 with another prompt than the problem's.")


@given(st.lists(st.integers(0, 305), max_size=25), st.sampled_from(sorted(chats())), st.sampled_from(sorted(chats())))
@settings(max_examples=150, deadline=None)
def test_whatever_a_student_samples_only_equal_bytes_are_compared(ids: list[int], teacher: str, student: str) -> None:
    theirs, ours = token_bytes(chats()[teacher].tokenizer), token_bytes(chats()[student].tokenizer)
    one = trace(chats()[student], "", tokens=tuple(ids))
    pairing = Pairer(chats()[teacher], chats()[student], theirs, ours).pair(one)
    read = pairing.trace.completion.tokens or ()
    assert len(pairing.ours) == len(ids) and len(pairing.theirs) == len(read)
    assert set(pairing.ours[pairing.ours >= 0].tolist()) == set(pairing.theirs[pairing.theirs >= 0].tolist())
    for group in range(pairing.ours.max(initial=-1) + 1):
        mine, other = (
            [
                "END" if token in chat.stop_ids else (piece or b"")[int(phantom) :]
                for token, piece, number, phantom in zip(tokens, spelling.spell(tokens), numbers, phantoms, strict=True)
                if number == group
            ]
            for chat, spelling, tokens, numbers, phantoms in (
                (chats()[student], ours, ids, pairing.ours, pairing.our_phantom),
                (chats()[teacher], theirs, read, pairing.theirs, pairing.their_phantom),
            )
        )
        assert mine == other == ["END"] or b"".join(mine) == b"".join(other)  # type: ignore[arg-type]


def opening(size: int) -> Chat:
    """A chat whose generation prompt opens the thought."""
    tokenizer = byte_level.__wrapped__(size)
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant\\n' -}}", "assistant\\n<think>\\n' -}}")
    chat = Chat(tokenizer)
    assert chat.prompt_opens_thinking
    return chat


@pytest.mark.parametrize("teacher_opens", [False, True])
@pytest.mark.parametrize("student_opens", [False, True])
def test_a_thought_that_a_prompt_opens_is_the_same_thought(teacher_opens: bool, student_opens: bool) -> None:
    theirs = opening(420) if teacher_opens else chats()["large"]
    ours = opening(300) if student_opens else chats()["small"]
    asked = CrossTeacher(local(theirs), theirs, ours)
    one = trace(ours, SOLUTION)
    (found,) = asked.logprobs([one])
    said = found[start_of(one) :]
    silent = len(ours.response(SOLUTION)) - len(ours.response(SOLUTION.removeprefix("<think>\n")))
    assert np.isnan(said[:silent]).all() if teacher_opens else np.isfinite(said[:silent]).all()
    assert np.isfinite(said[silent:]).all()
    prompt, response = theirs.prompt(one.problem.messages), theirs.response(SOLUTION)
    (whole,) = LocalReference(model(len(theirs.tokenizer))).logprobs([[*prompt, *response]])
    given = 0 if teacher_opens or not student_opens else len(theirs.response("<think>\n")) - 1
    assert said[np.isfinite(said)].sum() == pytest.approx(whole[len(prompt) + given :].sum(), abs=1e-4)


def test_a_response_that_does_not_think_is_nothing_to_a_teacher_that_must() -> None:
    theirs = opening(420)
    asked = CrossTeacher(local(theirs), theirs, chats()["small"])
    (found,) = asked.logprobs([trace(chats()["small"], "The answer is 19.")])
    assert np.isnan(found).all() and "do not think" in next(iter(asked.coverage.reasons))


def test_a_teacher_that_changes_some_texts_speaks_up_to_the_change() -> None:
    theirs = Chat(normalised(420, normalizers.NFC()))
    asked = CrossTeacher(local(theirs), theirs, chats()["small"])
    one = trace(chats()["small"], "The answer: e\u0301 is 27.")
    (found,) = asked.logprobs([one])
    before = len(chats()["small"].response("The answer: ")) - 1
    assert np.isfinite(found[start_of(one) :][: before - 1]).all() and np.isnan(found[start_of(one) + before :]).all()
    assert "changes the text" in asked.coverage.sentence()


def test_the_rungs() -> None:
    small, large = chats()["small"], chats()["large"]
    assert rung_of(small, Chat(byte_level.__wrapped__(300))) == (Rung.SAME, "")
    assert rung_of(small, large)[0] is rung_of(large, small)[0] is Rung.MATCHED
    assert rung_of(large, chats()["bytes"])[0] is Rung.SAMPLED
    for tokenizer in (normalised(420, normalizers.Lowercase()), word_piece()):
        rung, why = rung_of(small, Chat(tokenizer))
        assert rung is Rung.TEXT and why
        with pytest.raises(ConfigurationError, match="text"):
            CrossTeacher(local(large), Chat(tokenizer), small)
    asked = cross("bytes", "large")
    assert asked.rung is Rung.SAMPLED
    with pytest.raises(ConfigurationError, match="opd"):
        asked.top([trace(large, SOLUTION)], 4)


def test_objectives_learn_where_it_speaks() -> None:
    chat, asked = chats()["small"], cross("large", "small")
    one = trace(chat, SOLUTION)
    group = Group(one.problem, (one,))
    (taught,) = KD(top_k=8)(group, teacher=asked)
    assert taught.kd_weight is not None and taught.topk is not None
    told = (taught.topk.ids >= 0).any(1)
    assert (taught.kd_weight == told).all() and 0 < told.sum() < len(taught.tokens) - start_of(one)
    (paid,) = OPD(max_gap=1e6)(group, teacher=asked)
    (score,) = asked.logprobs([one])
    assert paid.pg_weight[start_of(one) :].all()
    expected = score[start_of(one) :].sum() - sum(one.completion.logprobs or ())
    assert paid.advantage.sum() == pytest.approx(expected, abs=1e-3)
    assert "another tokenizer" in asked.coverage.sentence() and asked.coverage.numbers()["tokens"] > 0


def test_an_empty_completion_is_no_trouble() -> None:
    one = trace(chats()["small"], "", tokens=())
    asked = cross("large", "small")
    (found,), (top,) = asked.logprobs([one]), asked.top([one], 3)
    assert np.isnan(found).all() and (top.ids == -1).all() and len(top.ids) == len(found) == start_of(one)
    assert asked.logprobs([]) == [] and asked.top([], 3) == []
