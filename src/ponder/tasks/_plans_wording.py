"""How worlds of barter are told."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from ponder.tasks._english import capital, indefinite, joined
from ponder.tasks._plans_world import World
from ponder.tasks._procedural import Style
from ponder.tasks._words import SEEN


@dataclass(frozen=True, slots=True)
class Wording:
    """Templates of one set of splits; no sentence of one set occurs in another."""

    offers: tuple[str, ...]
    """{person} gives {gives} for {takes}."""
    stocks: tuple[str, ...]
    """What the {hero} owns: {stock}."""
    goals: tuple[str, ...]
    former_stocks: tuple[str, ...]
    """What the {hero} owned before the trades made already."""
    done: tuple[str, ...]
    """Trades made already: {people}."""
    questions: tuple[str, ...]
    completions: tuple[str, ...]
    """Questions when some trades have been made already."""
    limits: tuple[str, ...]
    """At most {limit}."""
    asides: tuple[str, ...]
    layouts: tuple[tuple[str, str], ...]
    """Page and what joins its offers."""


WORDING = Wording(
    offers=(
        "{person} gives {gives} for {takes}.",
        "{gives} from {person} costs {takes}.",
        "You get {gives} from {person} for {takes}.",
        "To get {gives}, bring {person} {takes}.",
        "{gives} is sold by {person} for {takes}.",
        "For {gives} {person} wants {takes}.",
    ),
    stocks=(
        "{hero} has {stock}.",
        "{hero} owns {stock}.",
        "{hero} starts with {stock}.",
        "At first {hero} has {stock}.",
    ),
    former_stocks=("At first {hero} had {stock}.", "{hero} started with {stock}."),
    goals=(
        "{hero} wants {goal}.",
        "{hero} would like {goal}.",
        "{hero} needs {goal}.",
        "The goal of {hero} is {goal}.",
    ),
    done=("{hero} has already traded with {people}.", "Then {hero} traded with {people}."),
    questions=(
        "With whom should {hero} trade, in order?",
        "Which trades lead there?",
        "Find a plan.",
        "What should {hero} do?",
    ),
    completions=("Which trades come next?", "Complete the plan.", "What should {hero} do next?"),
    limits=("Use at most {limit}.", "Do it in at most {limit}."),
    asides=(
        "{person} is {trait}.",
        "{person} is in {place}.",
        "{person} was in {place} before.",
        "{person} and {hero} are friends.",
    ),
    layouts=(
        ("{owned} {goal} {offers} {question}", " "),
        ("{offers} {owned} {goal} {question}", " "),
        ("Offers:\n- {offers}\n{owned} {goal}\n{question}", "\n- "),
        ("{goal} {question}\n{owned} {offers}", " "),
        ("{owned}\n{offers}\n{goal}\n{question}", "\n"),
    ),
)

RENAMED = Wording(
    offers=(
        "{takes} can buy {gives} from {person}.",
        "{person} hands over {gives} for {takes}.",
        "Give {person} {takes} and get {gives}.",
    ),
    stocks=("In the bag of {hero}: {stock}.", "{hero} can give away {stock}."),
    goals=("{hero} must get {goal}.", "In the end {hero} should have {goal}."),
    former_stocks=("In the bag of {hero} there was {stock}.", "Before that {hero} had {stock}."),
    done=("So far {hero} traded with {people}.", "{hero} began and traded with {people}."),
    questions=("How can {hero} get it?", "Tell me a plan for {hero}."),
    completions=("How can {hero} go on?", "Tell me the rest of the plan."),
    limits=("No more than {limit}.", "Stay within {limit}."),
    asides=("{person} has a {trait} friend.", "{person} likes {place}.", "{hero} knows {person}."),
    layouts=(
        ("Here are the offers.\n* {offers}\n\n{owned} {goal} {question}", "\n* "),
        ("{owned}\n\n{offers}\n\n{goal} {question}", " "),
        ("{goal} {owned} {question}\n{offers}", " "),
    ),
)


def tell(rng: Random, world: World, style: Style) -> str:
    """The problem as text."""
    wording = WORDING if style.words is SEEN else RENAMED
    offers = [
        capital(
            rng.choice(wording.offers).format(
                person=offer.person, gives=indefinite(offer.gives), takes=joined(map(indefinite, offer.takes))
            )
        )
        for offer in world.offers
    ]
    for aside in _asides(rng, world, style, wording):
        offers.insert(rng.randint(0, len(offers)), aside)
    page, joiner = rng.choice(wording.layouts)
    return page.format(
        owned=_owned(rng, world, wording),
        goal=rng.choice(wording.goals).format(hero=world.hero, goal=indefinite(world.goal)),
        offers=joiner.join(offers),
        question=_question(rng, world, wording),
    )


def _owned(rng: Random, world: World, wording: Wording) -> str:
    """What the hero owned at the start, and what was traded since."""
    stock = joined(map(indefinite, world.stock))
    if not world.done:
        return rng.choice(wording.stocks).format(hero=world.hero, stock=stock)
    before = rng.choice(wording.former_stocks).format(hero=world.hero, stock=stock)
    people = joined(world.done, " and then ")
    return f"{before} {rng.choice(wording.done).format(hero=world.hero, people=people)}"


def _question(rng: Random, world: World, wording: Wording) -> str:
    question = rng.choice(wording.completions if world.done else wording.questions).format(hero=world.hero)
    if world.limit is None:
        return question
    trades = f"{world.limit} trade{'s' if world.limit > 1 else ''}"
    return f"{question} {rng.choice(wording.limits).format(limit=trades)}"


def _asides(rng: Random, world: World, style: Style, wording: Wording) -> list[str]:
    """Irrelevant statements, each about somebody else, so that no two contradict each other."""
    others = [name for name in style.words.names if name != world.hero]
    return [
        rng.choice(wording.asides).format(
            person=person,
            hero=world.hero,
            trait=rng.choice(style.words.traits),
            place=rng.choice(style.words.places),
        )
        for person in rng.sample(others, style.distractors)
    ]
