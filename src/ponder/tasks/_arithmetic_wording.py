"""How arithmetic word problems are told: one wording to train on, one never seen in training."""

from __future__ import annotations

from dataclasses import dataclass

from ponder.tasks._telling import HELD_OUT_LAYOUTS, SEEN_LAYOUTS


@dataclass(frozen=True, slots=True)
class Wording:
    """Templates; `{p}` is the person, `{o}` somebody else, `{c}` a counted thing, `{t}` the things."""

    gains: tuple[tuple[str, str], ...]
    """(Verb, predicate) of events that add."""
    losses: tuple[tuple[str, str], ...]
    """(Verb, predicate) of events that take away."""
    scales: dict[str, tuple[str, ...]]
    """Predicates of events that multiply or divide, by name."""
    bags: tuple[str, ...]
    connectives: tuple[str, ...]
    starts: tuple[str, ...]
    late_starts: tuple[str, ...]
    """Ways to state the start after the events."""
    questions: tuple[str, ...]
    distractions: tuple[str, ...]
    layouts: tuple[str, ...]


SEEN_WORDING = Wording(
    gains=(
        ("finds", "finds {c}"),
        ("buys", "buys {c}"),
        ("gets", "gets {c} from {o}"),
        ("wins", "wins {c}"),
        ("finds", "finds {c} in {l}"),
        ("buys", "buys {c} from {o}"),
        ("gets", "gets {c}"),
        ("wins", "wins {c} in a game"),
    ),
    losses=(
        ("loses", "loses {c}"),
        ("sells", "sells {c}"),
        ("gives", "gives {c} to {o}"),
        ("hands", "hands {c} to {o}"),
        ("loses", "loses {c} in {l}"),
        ("sells", "sells {c} to {o}"),
        ("gives", "gives {c} away"),
    ),
    scales={
        "twice": (
            "makes a good trade and has twice as many {t}",
            "now has twice as many {t} as before",
            "works hard and has twice as many {t}",
        ),
        "three times": (
            "makes a good trade and has three times as many {t}",
            "now has three times as many {t} as before",
        ),
        "half": ("gives half of the {t} to {o}", "loses half of the {t}", "sells half of the {t}"),
    },
    bags=("bags", "boxes"),
    connectives=("", "", "Then ", "Later ", "After that, ", "Next, "),
    starts=("{p} has {c}.", "{p} starts with {c}.", "At first {p} has {c}.", "In the morning {p} has {c}."),
    late_starts=("Before all this, {p} had {c}.", "{p} had {c} at the start."),
    questions=(
        "How many {t} does {p} have now?",
        "How many {t} does {p} have at the end?",
        "How many {t} does {p} have after this?",
        "What is the final number of {t} that {p} has?",
    ),
    distractions=(
        "{o} has {c}.",
        "{o} buys {d}.",
        "{p} also has {d}.",
        "{o} loses {d} in {l}.",
        "{p} goes to {l} with {o}.",
    ),
    layouts=SEEN_LAYOUTS,
)

RENAMED_WORDING = Wording(
    gains=(("earns", "earns {c}"), ("collects", "collects {c}"), ("receives", "receives {c} from {o}")),
    losses=(("donates", "donates {c}"), ("mails", "mails {c} to {o}"), ("returns", "returns {c} to {o}")),
    scales={
        "twice": ("doubles the number of {t}",),
        "three times": ("triples the number of {t}",),
        "half": ("shares the {t} with {o} so that each of them takes half",),
    },
    bags=("jars", "sacks"),
    connectives=("", "Soon ", "A day goes by. "),
    starts=("{p} owns {c}.", "We see {p} with {c}."),
    late_starts=("All of this began when {p} owned {c}.",),
    questions=("Count the {t} that {p} owns in the end.", "So how many {t} are left for {p}?"),
    distractions=("{o} owns {c}.", "{o} sees {d} in {l}."),
    layouts=HELD_OUT_LAYOUTS,
)
