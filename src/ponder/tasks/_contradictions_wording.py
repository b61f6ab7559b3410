"""How statements that may clash are told: one wording to train on, one never seen in training."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from ponder.tasks._contradictions_scene import ORDERS, Scene, Statement
from ponder.tasks._procedural import Style
from ponder.tasks._telling import capitalised
from ponder.tasks._words import SEEN


@dataclass(frozen=True, slots=True)
class Wording:
    """Templates; `{a}` and `{b}` are people, or things with their article."""

    frames: tuple[str, ...]
    """Around a statement {s} of any kind."""
    together: tuple[str, ...]
    questions: tuple[str, ...]
    """About {h}, whose chain of statements is to be followed."""
    places: tuple[str, ...]
    """What every problem about places says before its question."""
    asides: tuple[str, ...]
    layouts: tuple[tuple[str, str, str], ...]
    """Page, a numbered statement {s} without its full stop, and what joins statements."""


SEEN_WORDING = Wording(
    frames=("{s}.", "{s}.", "{s}.", "In fact {s}.", "Surely {s}.", "Clearly {s}."),
    together=("{a} is with {b}", "{a} is where {b} is", "{a} and {b} are together", "{a} is in the same place as {b}"),
    questions=(
        "Check {h}. Which statements clash, or is all consistent?",
        "Is there a clash about {h}? Name the statements that clash, or say consistent.",
        "Start with {h}. Which statements clash? Say consistent if none do.",
        "Can all that is said about {h} be true? If not, which statements clash?",
    ),
    places=("Nothing is in two places.", "A thing has only one place."),
    asides=("{o} is happy", "{o} is in {l}", "{o} has a new hat", "{o} likes {l}"),
    layouts=(
        ("{statements}\n{question}", "{s} ({n}).", "\n"),
        ("{statements} {question}", "{s} ({n}).", " "),
        ("{question}\n{statements}", "{s} ({n}).", "\n"),
        ("{statements}\nQuestion: {question}", "{s} ({n}).", "\n"),
        ("Question: {question}\n{statements}", "{n}. {s}.", "\n"),
    ),
)

RENAMED_WORDING = Wording(
    frames=("You can see that {s}.", "It is certain that {s}.", "Note that {s}."),
    together=("{a} is beside {b}, in the same place", "{a} and {b} share one place"),
    questions=(
        "Follow what is told about {h}. Which statements cannot hold together? Else say consistent.",
        "Somebody looks for a clash about {h}. What are the numbers, or is it consistent?",
    ),
    places=("No object is ever in two places.",),
    asides=("{o} visits {l}", "{o} wears a coat"),
    layouts=(
        ("Somebody wrote down:\n{statements}\n{question}", "#{n} {s}.", "\n"),
        ("These were noted: {statements} {question}", "[{n}] {s}.", " "),
        ("{question}\n{statements}", "{n}) {s}.", "\n"),
    ),
)

REVERSED_SHARE = 0.2
"""How often a statement about an order is told from its other end."""


def tell(rng: Random, scene: Scene, style: Style) -> str:
    """The problem as text."""
    wording = SEEN_WORDING if style.words is SEEN else RENAMED_WORDING
    sentences = [told(rng, scene.topic, statement, wording) for statement in scene.statements]
    page, numbered, joiner = rng.choice(wording.layouts)
    question = rng.choice(wording.questions).format(h=named(scene.hero, scene.topic))
    return page.format(
        statements=joiner.join(numbered.format(n=n, s=sentence.rstrip(".")) for n, sentence in enumerate(sentences, 1)),
        question=question if scene.topic else f"{rng.choice(wording.places)} {question}",
    )


def told(rng: Random, topic: str, statement: Statement, wording: Wording) -> str:
    """One statement as a sentence, in one of its wordings."""
    return capitalised(rng.choice(wording.frames).format(s=_clause(rng, topic, statement, wording)))


def with_asides(rng: Random, scene: Scene, style: Style) -> Scene:
    """The scene with as many irrelevant statements mixed in as the style asks for."""
    wording = SEEN_WORDING if style.words is SEEN else RENAMED_WORDING
    statements = list(scene.statements)
    # Each name once, so that nobody is in two places.
    for name in rng.sample(style.words.names, style.distractors):
        aside = rng.choice(wording.asides).format(o=name, l=rng.choice(style.words.places))
        statements.insert(rng.randint(0, len(statements)), Statement(kind="aside", first=aside))
    return scene.model_copy(update={"statements": tuple(statements)})


def named(noun: str, topic: str) -> str:
    """A person by name, a thing with its article."""
    return noun if topic else f"the {noun}"


def clause(topic: str, statement: Statement, start: str = "") -> str:
    """The canonical form of a statement; of two things together, the one it starts from comes first."""
    if statement.kind == "order":
        return f"{statement.first} {topic} {statement.second}"
    if statement.kind == "place":
        return f"the {statement.first} is in {statement.second}"
    if statement.kind == "aside":
        return statement.first
    return f"the {start} is with the {statement.other_end(start)}"


def _clause(rng: Random, topic: str, statement: Statement, wording: Wording) -> str:
    first, second = statement.first, statement.second
    if statement.kind == "same":
        return rng.choice(wording.together).format(a=named(first, topic), b=named(second, topic))
    if statement.kind == "order" and rng.random() < REVERSED_SHARE:
        reverse, adjective = ORDERS[topic]
        if adjective and rng.random() < 0.4:
            return f"{second} is not as {adjective} as {first}"
        return f"{second} {reverse} {first}"
    return clause(topic, statement)
