from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ponder.core.plugins import load_plugin, plugin_names
from ponder.core.types import Completion, Finish, Problem, Trace, Usage, Verdict


def trace(text: str, verdict: Verdict | None = None, **fields: Any) -> Trace:
    problem = Problem(id="p", task="t", prompt="q", answer=1)
    return Trace(problem=problem, completion=Completion(text=text, **fields), verdict=verdict or Verdict.correct())


def pay(name: str, text: str, *, completion: dict[str, Any] | None = None, **settings: Any) -> float:
    plugin = load_plugin("rewards", name)
    reward = plugin(**settings) if isinstance(plugin, type) else plugin
    return reward(trace(text, **(completion or {})))


@pytest.mark.parametrize("name", plugin_names("rewards"))
@pytest.mark.parametrize(
    "text", ["", "<think>", "</think>", "<think></think>", "\ud800", "\x00" * 9, "a" * 10_000, "😀 ∀"]
)
def test_every_reward_is_a_finite_number_on_any_text(name: str, text: str) -> None:
    assert -1.0 <= pay(name, text) <= 1.0


def test_correct_pays_what_the_verifier_gave() -> None:
    reward = load_plugin("rewards", "correct")
    partial = Verdict.correct().model_copy(update={"reward": 0.25})
    assert [reward(trace("", v)) for v in (Verdict.correct(), Verdict.wrong(), partial)] == [1.0, 0.0, 0.25]


@pytest.mark.parametrize(
    ("text", "paid"),
    [
        ("<think>\n2 + 2 is 4\n</think>\nThe answer is 4.", 1.0),
        ("The answer is 4.", 0.0),
        ("<think>2 + 2", 0.0),
        ("2 + 2 </think> 4", 0.0),
        ("<think> </think> 4", 0.0),
        ("<think>2 + 2</think> ", 0.0),
        ("4 <think>2 + 2</think> 4", 0.0),
        ("<think>a</think> 4 <think>b</think> 5", 0.0),
        ("<think>a<think>b</think> 4", 0.0),
        ("</think>a<think> 4", 0.0),
    ],
)
def test_format_pays_one_closed_thought_and_an_answer(text: str, paid: float) -> None:
    assert pay("format", text) == paid
    assert pay("format", text, completion={"finish": Finish.LENGTH}) == 0.0


@pytest.mark.parametrize(("length", "paid"), [(0, 0.0), (60, 0.0), (70, -0.25), (80, -0.5), (100, -1.0), (500, -1.0)])
def test_length_falls_in_a_line_before_the_limit(length: int, paid: float) -> None:
    settings = {"max_tokens": 100, "cushion": 40}
    assert pay("length", "", completion={"tokens": tuple(range(length))}, **settings) == pytest.approx(paid)
    counted = {"usage": Usage(completion_tokens=length)}
    assert pay("length", "", completion=counted, **settings) == pytest.approx(paid)


def test_length_has_the_published_numbers_and_refuses_nonsense() -> None:
    assert pay("length", "", completion={"usage": Usage(completion_tokens=20_480 - 1_024)}) == -0.75
    with pytest.raises(ValidationError):
        load_plugin("rewards", "length")(max_tokens=10, cushion=20)


def test_repetition_is_the_share_of_repeated_ngrams() -> None:
    assert pay("repetition", "one two three four five six") == 0.0
    assert pay("repetition", "too short") == 0.0
    assert pay("repetition", "a b a b a b", words=2) == pytest.approx(2 / 5 - 1)
    assert pay("repetition", "wait " * 103) == pytest.approx(1 / 100 - 1)


ENGLISH = "Tom has three apples and buys two more. So he has five of them now."
GERMAN = "Tom hat drei Äpfel und kauft noch zwei. Also hat er jetzt fünf Stück."
FRENCH = "Il a trois pommes et en achète deux de plus. Donc il en a cinq."
SPANISH = "Tiene tres manzanas y compra dos más. Entonces tiene cinco en total."
RUSSIAN = "У него три яблока и он покупает ещё два. Значит у него пять."
CHINESE = "他有三个苹果又买了两个所以现在一共有五个苹果"
JAPANESE = "りんごが三つあり、さらに二つ買うので、全部で五つです。"
KOREAN = "사과가 세 개 있고 두 개를 더 샀으므로 모두 다섯 개입니다."
TEXTS = {
    "en": ENGLISH, "de": GERMAN, "fr": FRENCH, "es": SPANISH,
    "ru": RUSSIAN, "zh": CHINESE, "ja": JAPANESE, "ko": KOREAN,
}  # fmt: skip


def spoken(thinking: str, language: str = "en") -> float:
    return pay("language", f"<think>{thinking}</think> 5", language=language)


@pytest.mark.parametrize("asked", TEXTS)
@pytest.mark.parametrize("written", TEXTS)
def test_a_language_is_told_from_the_others(asked: str, written: str) -> None:
    share = spoken(TEXTS[written], asked)
    assert share == 1.0 if asked == written else share < 0.5


def test_language_is_a_share_of_words() -> None:
    assert 0.3 < spoken(f"{ENGLISH} {GERMAN}") < 0.7
    assert spoken(f"{ENGLISH} {CHINESE}") < spoken(f"{ENGLISH} {CHINESE[:6]}") < 1.0


@pytest.mark.parametrize(
    "aside",
    [
        "```python\nfür = und(oder)\nприбавить(х)\n```",
        "`wenn_dann` and `und`",
        "$\\frac{und}{der} = \\sum x_i$",
        "\\(die + das\\)",
        "x = 3 * y1 + 17",
        "α + β = γ",
        "We ask Иван Петрович and Jürgen about it",
        "see https://beispiel.de/und/oder",
    ],
)
def test_code_formulas_and_names_are_nobodys_language(aside: str) -> None:
    assert spoken(f"{ENGLISH} {aside}.") == 1.0


def test_capitals_do_not_hide_a_language() -> None:
    assert spoken("Er Hat Drei Und Kauft Noch Zwei Und Dann Ist Er Froh.") == 0.0


def test_language_needs_thinking_but_not_words() -> None:
    assert pay("language", "The answer is 5.") == 0.0
    assert spoken("3 + 2 = 5") == 1.0
    with pytest.raises(ValidationError):
        spoken(ENGLISH, "xx")
