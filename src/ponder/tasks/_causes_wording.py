"""How causal stories are told."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from ponder.tasks._causes_story import Story
from ponder.tasks._english import capital, joined
from ponder.tasks._procedural import Style
from ponder.tasks._words import SEEN


@dataclass(frozen=True, slots=True)
class Wording:
    """Templates of one set of splits; no sentence of one set occurs in another."""

    rules: tuple[str, ...]
    """From {cause} to {effect}."""
    closings: tuple[str, ...]
    """That there are no other causes."""
    starts: tuple[str, ...]
    """The facts: {given}."""
    interventions: tuple[str, ...]
    """Somebody puts an event into a {state}."""
    questions: tuple[str, ...]
    what_if: tuple[str, ...]
    """Questions after an intervention."""
    asides: tuple[str, ...]
    """Irrelevant statements about a {name}, a {trait} or a {place}."""
    layouts: tuple[tuple[str, str], ...]
    """Page and what joins its rules. The {what_if} part is empty without an intervention."""


WORDING = Wording(
    rules=(
        "If {cause}, {effect}.",
        "When {cause}, {effect}.",
        "Whenever {cause}, {effect}.",
        "Each time {cause}, {effect}.",
        "{effect} if {cause}.",
        "{effect} when {cause}.",
    ),
    closings=(
        "Nothing happens without its cause.",
        "There are no other causes.",
        "Otherwise nothing happens.",
        "Nothing else makes a thing happen.",
    ),
    starts=("Today {given}.", "At first {given}.", "This is the start: {given}.", "Now {given}."),
    interventions=(
        "Suppose somebody makes sure by hand that {state}.",
        "Suppose somebody steps in and {state}, whatever else happens.",
        "But what if somebody sees to it that {state} anyway?",
        "Imagine that {state} by hand, whatever the rest does.",
    ),
    questions=(
        "Which things happen?",
        "What happens?",
        "Name everything that happens.",
        "List all that happens.",
    ),
    what_if=(
        "Which things happen then?",
        "What happens then?",
        "Then name everything that happens.",
        "List all that happens then.",
    ),
    asides=(
        "{name} is {trait}.",
        "{name} is in {place}.",
        "{name} was in {place} before.",
        "{name} and {other} are friends.",
    ),
    layouts=(
        ("{start} {rules} {closing} {question}", " "),
        ("{rules} {closing} {start} {question}", " "),
        ("Rules:\n- {rules}\n{closing} {start}\n{question}", "\n- "),
        ("{start}\n{rules}\n{closing}\n{question}", "\n"),
        ("{question}\n{start} {rules} {closing}", " "),
    ),
)

RENAMED = Wording(
    rules=(
        "As soon as {cause}, {effect}.",
        "Every time {cause}, {effect}.",
        "{effect} as soon as {cause}.",
        "{effect} each time {cause}.",
    ),
    closings=("Nothing else causes anything.", "A thing without a cause stays as it is."),
    starts=("In the beginning {given}.", "Here {given}.", "We see that {given}."),
    interventions=(
        "Now somebody forces it by hand: {state}.",
        "What if somebody made sure that {state}, whatever the rules say?",
        "Suppose that {state} because somebody steps in.",
    ),
    questions=("Tell me everything that happens.", "What are all the things that happen?"),
    what_if=("Tell me everything that happens then.", "What are all the things that happen then?"),
    asides=("{name} has a {trait} friend.", "{name} likes {place}.", "{other} knows {name}."),
    layouts=(
        ("{start}\n\n{rules} {closing}\n\n{question}", " "),
        ("Here are the rules.\n* {rules}\n* {closing}\n* {start}\n{question}", "\n* "),
        ("{closing} {rules} {start}\n\n{question}", " "),
    ),
)


def tell(rng: Random, story: Story, style: Style) -> str:
    """The problem as text."""
    wording = WORDING if style.words is SEEN else RENAMED
    rules = [
        capital(
            rng.choice(wording.rules).format(
                cause=" and ".join(map(story.text, rule.causes)), effect=story.text((rule.effect, True))
            )
        )
        for rule in story.mechanisms
    ]
    for aside in _asides(rng, style, wording):
        rules.insert(rng.randint(0, len(rules)), aside)
    page, joiner = rng.choice(wording.layouts)
    return page.format(
        start=capital(rng.choice(wording.starts).format(given=joined(map(story.text, story.given)))),
        rules=joiner.join(rules),
        closing=rng.choice(wording.closings),
        question=_question(rng, story, wording),
    )


def _question(rng: Random, story: Story, wording: Wording) -> str:
    if story.forced is None:
        return rng.choice(wording.questions)
    intervention = rng.choice(wording.interventions).format(state=story.text(story.forced))
    return f"{intervention} {rng.choice(wording.what_if)}"


def _asides(rng: Random, style: Style, wording: Wording) -> list[str]:
    """Irrelevant statements, each about somebody else, so that no two contradict each other."""
    names = rng.sample(style.words.names, 2 * style.distractors)
    return [
        rng.choice(wording.asides).format(
            name=name, other=other, trait=rng.choice(style.words.traits), place=rng.choice(style.words.places)
        )
        for name, other in zip(names[::2], names[1::2], strict=True)
    ]
