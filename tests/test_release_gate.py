"""Every known way in which an exported model is not the trained one is caught, and by its name."""

from __future__ import annotations

import unicodedata
from functools import cache

import pytest

from ponder.backends.teachers import teacher_of
from ponder.core.answers import THINK_CLOSE, THINK_OPEN
from ponder.core.loops import repeats
from ponder.core.types import Completion, Finish, Message, Messages, Outcome, Problem, Trace, Usage, Verdict
from ponder.measure.release import Bounds, Finding
from ponder.models.load import LoadedModel, load_model
from ponder.stages._release.behaviour import Answered, behaviour_findings, worst_traces
from ponder.stages._release.expectations import expectation_finding, held_out
from ponder.stages._release.forms import exporter_of, forms_of
from ponder.stages._release.likeness import prompt_findings, special_names, tokenizer_finding
from ponder.stages._release.texts import is_composed, texts_for
from runtimes import Twin, other_template

BOUNDS = Bounds()


@cache
def teacher() -> LoadedModel:
    return load_model("pocket-teacher")


@cache
def base() -> LoadedModel:
    return load_model("pocket-base")


def _texts(count: int = 1500) -> list[str]:
    return texts_for(count, 0, special_names(teacher().chat))


def _only(findings: list[Finding], passed: bool = False) -> list[str]:
    return [finding.name for finding in findings if finding.passed is passed]


class TestTexts:
    def test_they_are_many_different_and_the_same_again(self) -> None:
        texts = texts_for(3000, 7, ["<think>", "<|im_end|>"])
        assert len(set(texts)) == 3000 and texts == texts_for(3000, 7, ["<think>", "<|im_end|>"])
        assert texts != texts_for(3000, 8, ["<think>", "<|im_end|>"])

    def test_they_hold_what_goes_wrong(self) -> None:
        texts = texts_for(3000, 0, ["<think>", "<|im_end|>"])
        assert sum("<think>" in text for text in texts) > 50
        assert sum(not is_composed(text) for text in texts) > 200
        planes = {ord(letter) >> 16 for text in texts for letter in text}
        assert planes >= {0, 1, 2, 3, 14, 15}
        for text in texts:
            text.encode()  # no half of a surrogate pair


class TestLikeness:
    def test_a_twin_passes_everything(self) -> None:
        chat, twin = teacher().chat, Twin(teacher())
        assert tokenizer_finding(chat, twin, _texts(3000), BOUNDS).passed
        assert not _only(prompt_findings(chat, twin))

    def test_a_lost_normaliser(self) -> None:
        class Composing(Twin):
            """Stands for the trained side's NFC: here the runtime composes and the model did not."""

            def encode(self, text: str, special: bool = False) -> list[int]:
                return super().encode(unicodedata.normalize("NFC", text), special)

        found = tokenizer_finding(teacher().chat, Composing(teacher()), _texts(), BOUNDS)
        assert (found.name, found.passed) == ("normaliser", False) and "NFC" in found.text
        borne = tokenizer_finding(teacher().chat, Composing(teacher()), _texts(), Bounds(uncomposed=True))
        assert borne.passed

    def test_another_way_of_cutting(self) -> None:
        class Spaced(Twin):
            def encode(self, text: str, special: bool = False) -> list[int]:
                return super().encode(f" {text}" if text[:1].isalpha() else text, special)

        found = tokenizer_finding(teacher().chat, Spaced(teacher()), _texts(), BOUNDS)
        assert (found.name, found.passed) == ("tokenizer", False)

    def test_text_that_becomes_a_special_token(self) -> None:
        class Trusting(Twin):
            def encode(self, text: str, special: bool = False) -> list[int]:
                return super().encode(text, True)

        found = tokenizer_finding(teacher().chat, Trusting(teacher()), _texts(), BOUNDS)
        assert (found.name, found.passed) == ("tokenizer", False) and "special" in found.text

    def test_a_wrong_template(self) -> None:
        class Other(Twin):
            def render(self, messages: Messages, thinking: bool = True) -> str:
                wrong = self.chat.template.replace("\\n", "\\n\\n", 1)
                return other_template(self.chat, wrong).render(messages, thinking=thinking)

        assert _only(prompt_findings(teacher().chat, Other(teacher()))) == ["template"]

    def test_a_template_that_forgets_earlier_thoughts(self) -> None:
        class Forgetting(Twin):
            def render(self, messages: Messages, thinking: bool = True) -> str:
                bare = [turn.model_copy(update={"reasoning_content": None}) for turn in messages]
                return super().render(bare, thinking)

        findings = prompt_findings(teacher().chat, Forgetting(teacher()))
        assert _only(findings) == ["template"] and "with thinking" in findings[0].text

    def test_thinking_that_is_off(self) -> None:
        class Silent(Twin):
            def render(self, messages: Messages, thinking: bool = True) -> str:
                return super().render(messages, thinking) + f"{THINK_OPEN}\n\n{THINK_CLOSE}\n\n"

        assert _only(prompt_findings(teacher().chat, Silent(teacher()))) == ["thinking"]

    @pytest.mark.parametrize(("begin", "words"), [([5, 5], "twice"), ([5], "adds")])
    def test_a_bos_too_many(self, begin: list[int], words: str) -> None:
        class Begun(Twin):
            def prompt(self, messages: Messages) -> list[int]:
                return [*begin, *super().prompt(messages)]

        chat = teacher().chat
        if len(begin) == 2:  # a model with a BOS of its own, which the runtime puts there once more
            expected = chat.prompt((Message(role="user", content="x"),))
            begin[:] = [expected[0]]
        findings = [found for found in prompt_findings(chat, Begun(teacher())) if found.passed is False]
        assert [found.name for found in findings] == ["bos"] and words in findings[0].text

    def test_a_lost_bos(self) -> None:
        class Bare(Twin):
            def prompt(self, messages: Messages) -> list[int]:
                return super().prompt(messages)[1:]

        assert _only(prompt_findings(teacher().chat, Bare(teacher()))) == ["bos"]


def _trace(number: int, text: str, right: bool, finish: Finish = Finish.STOP) -> Trace:
    thinking = len(text.partition(THINK_CLOSE)[0].split())
    return Trace(
        problem=Problem(id=str(number), task="t", prompt=f"How many are {number} coins?", answer=str(number)),
        completion=Completion(text=text, finish=finish, usage=_usage(thinking)),
        verdict=Verdict(outcome=Outcome.CORRECT if right else Outcome.WRONG, reward=float(right), answer="1"),
        sampler="m",
    )


def _usage(thinking: int) -> Usage:
    return Usage(prompt_tokens=5, completion_tokens=thinking + 5, thinking_tokens=thinking)


def _side(count: int = 400, wrong: int = 40, text: str = "", finish: Finish = Finish.STOP) -> Answered:
    said = text or f"{THINK_OPEN}\nfour and three are seven\n{THINK_CLOSE}\n\nThe answer is 7."
    return Answered.of(_trace(number, said, number >= wrong, finish) for number in range(count))


class TestBehaviour:
    def test_the_same_answers_pass(self) -> None:
        findings = behaviour_findings(_side(), _side(), BOUNDS)
        assert not _only(findings)
        assert {found.name for found in findings} == {
            "accuracy", "end_of_turn", "thinking", "thinking_length", "loops"
        }  # fmt: skip

    def test_accuracy_counts_at_the_far_end_of_its_interval(self) -> None:
        assert "accuracy" not in _only(behaviour_findings(_side(), _side(wrong=44), BOUNDS))
        assert "accuracy" in _only(behaviour_findings(_side(), _side(wrong=60), BOUNDS))

    def test_too_few_problems_prove_nothing(self) -> None:
        findings = behaviour_findings(_side(100, 10), _side(100, 10), BOUNDS)
        assert _only(findings) == ["accuracy"] and "fewest" in findings[0].text

    def test_a_lost_end_of_turn(self) -> None:
        assert "end_of_turn" in _only(behaviour_findings(_side(), _side(finish=Finish.LENGTH), BOUNDS))

    def test_a_model_that_ends_no_turn_itself_proves_nothing(self) -> None:
        cut = _side(finish=Finish.LENGTH)
        assert "end_of_turn" in _only(behaviour_findings(cut, cut, BOUNDS))

    def test_thinking_that_is_off(self) -> None:
        assert _only(behaviour_findings(_side(), _side(text="The answer is 7."), BOUNDS)) == [
            "thinking", "thinking_length"
        ]  # fmt: skip

    def test_loops(self) -> None:
        looping = _side(text=f"{THINK_OPEN}\nx\n{THINK_CLOSE}\n\n" + "so it is seven, wait, " * 20)
        assert "loops" in _only(behaviour_findings(_side(), looping, BOUNDS))

    def test_the_worst_come_first(self) -> None:
        trained = _side(20, 0)
        traces = list(trained.traces)
        traces[3] = _trace(3, traces[3].completion.text.replace("7.", "8."), False)
        traces[5] = _trace(5, "The answer " * 30, True)
        traces[7] = _trace(7, traces[7].completion.text.replace("four", "five"), True)
        worst = worst_traces(trained, Answered.of(traces))
        assert [row["id"] for row in worst] == ["3", "5", "7"]
        assert worst[0]["lost"] and worst[1]["loop"] and not worst[2]["loop"]


class TestExpectations:
    def _traces(self) -> list[Trace]:
        problems = [
            Problem(id=str(number), task="t", prompt=f"What is {number} + {3 * number}?", answer=str(4 * number))
            for number in range(8)
        ]
        said = "<think>\n{0} + {1} = {2}\n</think>\n\nThe answer is {2}."
        return [
            Trace(
                problem=problem,
                completion=Completion(text=said.format(number, 3 * number, 4 * number), finish=Finish.STOP),
                verdict=Verdict(outcome=Outcome.CORRECT, reward=1.0),
            )
            for number, problem in enumerate(problems)
        ]

    def test_a_twin_expects_the_same_and_another_model_does_not(self) -> None:
        loaded = teacher()
        traces = held_out(self._traces(), loaded.chat, 10_000, None)
        own = expectation_finding(teacher_of(loaded), Twin(loaded), traces, BOUNDS)
        assert own.passed and own.facts["mean_nats"] < 1e-4 and own.facts["agreement"] == 1.0
        other = expectation_finding(teacher_of(loaded), Twin(base()), traces, BOUNDS)
        assert other.passed is False and other.facts["mean_nats"] > 0.1

    def test_traces_are_cut_at_enough_tokens_and_at_the_room(self) -> None:
        chat = teacher().chat
        assert len(held_out(self._traces(), chat, 30, None)) < 8
        assert held_out(self._traces(), chat, 10_000, 20) == []


def test_forms_are_read_and_refused() -> None:
    expected = ["gguf:q8_0", "gguf:q4_k_m", "web", "onnx:int4"]
    assert forms_of(["gguf:q8_0,q4_k_m", "web", "onnx:int4"]) == expected
    assert forms_of(["gguf:q8_0,q4_k_m,web,onnx:int4"]) == expected
    for wrong in (["gguf:"], ["gguf:q8_0", "gguf:q8_0"], ["gguf:../x"]):
        with pytest.raises(ValueError, match=r"form|twice"):
            forms_of(wrong)
    with pytest.raises(ValueError, match="no form"):
        exporter_of("gguf:q99")


def test_a_loop_is_not_a_list() -> None:
    assert repeats(list("abcabcabcabc" * 3)) and repeats([1] * 30)
    assert not repeats([1] * 10) and not repeats([f"step {n}" for n in range(99)])
