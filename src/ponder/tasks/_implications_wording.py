"""How theories of traits are told: one wording to train on, one never seen in training."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from ponder.tasks._implications_theory import NOT, Theory
from ponder.tasks._procedural import Style
from ponder.tasks._telling import HELD_OUT_LAYOUTS, SEEN_LAYOUTS, capitalised, mix_in
from ponder.tasks._telling import tell as lay_out
from ponder.tasks._words import SEEN


@dataclass(frozen=True, slots=True)
class Wording:
    """Templates; `{p}` is a person, `{a}` a premise, `{b}` a conclusion."""

    facts: tuple[str, ...]
    rules: tuple[str, ...]
    """For any premise and conclusion, `not` included."""
    plain_rules: tuple[str, ...]
    """Only where neither has a `not`."""
    exclusions: tuple[str, ...]
    """Only where the conclusion has a `not`, which the sentence itself says."""
    questions: dict[str, tuple[str, ...]]
    """By `Theory.asked`."""
    asides: tuple[str, ...]
    layouts: tuple[str, ...]


SEEN_WORDING = Wording(
    facts=(
        "{p} is {a}.",
        "We know that {p} is {a}.",
        "It is true that {p} is {a}.",
        "Everybody knows that {p} is {a}.",
    ),
    rules=(
        "Everyone who is {a} is {b}.",
        "If someone is {a}, they are {b}.",
        "Whoever is {a} is {b}.",
        "Anyone who is {a} is also {b}.",
    ),
    plain_rules=("All {a} people are {b}.", "{a} people are {b}."),
    exclusions=("Nobody who is {a} is {b}.", "No {a} person is {b}."),
    questions={
        "follows": (
            "Which one is true of {p}: {options}?",
            "Which of these follows about {p}: {options}?",
            "What must {p} be: {options}?",
            "Only one of these follows about {p}: {options}. Which one?",
        ),
        "fails": (
            "Which of these does not follow about {p}: {options}?",
            "One of these does not follow about {p}: {options}. Which one?",
            "What can we not conclude about {p}: {options}?",
        ),
        "last": (
            "What is the last thing that follows about {p}?",
            "What do we learn last about {p}?",
            "Go from rule to rule. What do we conclude last about {p}?",
            "What is the last thing we can conclude about {p}?",
        ),
    },
    asides=("{o} is in {l}.", "{p} was in {l} before.", "{o} and {p} are friends.", "{p} has a book.", "{o} is {t}."),
    layouts=SEEN_LAYOUTS,
)

RENAMED_WORDING = Wording(
    facts=("One thing is certain: {p} is {a}.", "{p} has always been {a}."),
    rules=(
        "A person who is {a} is always {b}.",
        "People who are {a} are always {b}.",
        "Those who are {a} are {b} as well.",
    ),
    plain_rules=("Every {a} person is {b}.", "Being {a} means being {b}."),
    exclusions=("You never find a {a} person who is {b}.",),
    questions={
        "follows": ("Pick what holds for {p}: {options}.", "Can you say which of these {p} has to be: {options}?"),
        "fails": ("Pick what need not hold for {p}: {options}.",),
        "last": (
            "Apply the rules to {p} until no rule is left. What is the last result?",
            "Which trait of {p} is found last by the rules?",
        ),
    },
    asides=("{o} likes {l}.", "{p} has a friend called {o}.", "{o} knows {p}."),
    layouts=HELD_OUT_LAYOUTS,
)


def tell(rng: Random, theory: Theory, style: Style) -> str:
    """The problem as text: facts, then rules, or facts among the rules."""
    wording = SEEN_WORDING if style.words is SEEN else RENAMED_WORDING
    facts = [rng.choice(wording.facts).format(p=person, a=quality) for person, quality in theory.facts]
    rules = [_rule(rng, wording, *rule) for rule in theory.rules]
    sentences = [*facts, *rules] if rng.random() < 0.6 else mix_in(rng, rules, facts)
    asides = _asides(rng, theory, style, wording)
    question = rng.choice(wording.questions[theory.asked])
    return lay_out(
        rng,
        wording.layouts,
        mix_in(rng, sentences, asides),
        question.format(p=theory.hero, options=_choice(theory.options)),
    )


def _rule(rng: Random, wording: Wording, premise: str, conclusion: str) -> str:
    if NOT not in (premise[: len(NOT)], conclusion[: len(NOT)]):
        return capitalised(rng.choice(wording.rules + wording.plain_rules).format(a=premise, b=conclusion))
    if conclusion.startswith(NOT) and not premise.startswith(NOT) and rng.random() < 0.6:
        return rng.choice(wording.exclusions).format(a=premise, b=conclusion.removeprefix(NOT))
    return rng.choice(wording.rules).format(a=premise, b=conclusion)


def _asides(rng: Random, theory: Theory, style: Style, wording: Wording) -> list[str]:
    """Statements from which nothing follows about the hero, and that no rule contradicts."""
    told = {theory.hero, *(person for person, _ in theory.facts)}
    others = rng.sample([name for name in style.words.names if name not in told], style.distractors)
    return [
        rng.choice(wording.asides).format(
            p=theory.hero, o=other, l=rng.choice(style.words.places), t=rng.choice(theory.rules)[1]
        )
        for other in others
    ]


def _choice(options: tuple[str, ...]) -> str:
    return " or ".join([", ".join(options[:-1]), options[-1]]) if options else ""
