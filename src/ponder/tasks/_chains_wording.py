"""Relations that chains are made of, and how they are told: one wording to train on, one kept unseen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wording:
    """Templates; a link goes from `{a}` to `{b}`, `{n}` is a number of links and `{s}` its plural ending."""

    statements: tuple[str, ...]
    """Ways to state a link; some name its end first."""
    counted: tuple[str, ...]
    """Questions about what is `{n}` links from `{a}`."""
    ended: tuple[str, ...]
    """Questions about where the chain from `{a}` ends."""


@dataclass(frozen=True, slots=True)
class Relation:
    """What links one thing to the next."""

    bank: str
    """Which words are linked: `names`, `places` or `goods`."""
    line: str
    """How a step of the worked solution states a link."""
    seen: Wording
    renamed: Wording


RELATIONS = {
    "notes": Relation(
        bank="names",
        line="{a} passes to {b}",
        seen=Wording(
            statements=(
                "{a} passes notes to {b}.",
                "{a} gives every note to {b}.",
                "{a} hands notes on to {b}.",
                "Notes go from {a} to {b}.",
                "{b} gets notes from {a}.",
            ),
            counted=(
                "A note starts with {a} and is passed on {n} time{s}. Who has it then?",
                "{a} has a note. Who has it after it is passed on {n} time{s}?",
            ),
            ended=(
                "A note starts with {a} and is passed on until it stops. Who has it then?",
                "{a} has a note. Who has it after it is passed on as far as it goes?",
            ),
        ),
        renamed=Wording(
            statements=(
                "Any message that {a} receives is forwarded to {b}.",
                "{a} forwards messages to {b}.",
                "Messages reach {b} through {a}.",
            ),
            counted=("Suppose {a} holds a message that is forwarded {n} time{s}. Name the holder.",),
            ended=("Suppose {a} holds a message that is forwarded to the limit. Name the last holder.",),
        ),
    ),
    "queue": Relation(
        bank="names",
        line="behind {a} is {b}",
        seen=Wording(
            statements=(
                "Behind {a} is {b}.",
                "{b} is right behind {a}.",
                "{a} is followed by {b}.",
                "{a} is just ahead of {b}.",
                "Next after {a} comes {b}.",
            ),
            counted=("Who is {n} place{s} behind {a}?", "Start at {a} and go back {n} place{s}. Who is there?"),
            ended=(
                "Who is last in the line that {a} is in?",
                "Start at {a} and go back to the end of the line. Who is there?",
            ),
        ),
        renamed=Wording(
            statements=(
                "{b} was served directly after {a}.",
                "{a} was served directly before {b}.",
                "The turn of {a} precedes that of {b}.",
            ),
            counted=("Name the person served {n} turn{s} later than {a}.",),
            ended=("Name the very last person served in the same queue as {a}.",),
        ),
    ),
    "rooms": Relation(
        bank="places",
        line="{a} leads to {b}",
        seen=Wording(
            statements=(
                "{a} leads to {b}.",
                "From {a} you come to {b}.",
                "The way out of {a} goes to {b}.",
                "After {a} you reach {b}.",
                "You get to {b} from {a}.",
            ),
            counted=(
                "You start in {a} and move on {n} time{s}. Where are you then?",
                "Start in {a}. Where are you after {n} move{s}?",
            ),
            ended=(
                "You start in {a} and move on as far as you can. Where are you then?",
                "Start in {a} and follow the way to its end. Where are you then?",
            ),
        ),
        renamed=Wording(
            statements=(
                "A traveler that leaves {a} arrives at {b}.",
                "The exit of {a} is the entrance of {b}.",
                "One enters {b} through {a}.",
            ),
            counted=("A traveler who sets out at {a} passes {n} exit{s}. Name the place reached.",),
            ended=("A traveler who sets out at {a} walks until there is no exit. Name the place reached.",),
        ),
    ),
    "shelf": Relation(
        bank="goods",
        line="right of {a} is {b}",
        seen=Wording(
            statements=(
                "Right of {a} is {b}.",
                "{b} is just right of {a}.",
                "{a} is just left of {b}.",
                "To the right of {a} you see {b}.",
                "{a} has {b} on its right.",
            ),
            counted=(
                "What is {n} place{s} to the right of {a}?",
                "Start at {a} and go {n} place{s} to the right. What is there?",
            ),
            ended=(
                "What is at the right end of the row with {a}?",
                "Start at {a} and go right to the end of the row. What is there?",
            ),
        ),
        renamed=Wording(
            statements=(
                "The right neighbor of {a} is {b}.",
                "{a} touches the left edge of {b}.",
                "{b} touches the right edge of {a}.",
            ),
            counted=("Move {n} position{s} rightward, beginning from {a}. Name the object found.",),
            ended=("Move rightward, beginning from {a}, until nothing more follows. Name the object found.",),
        ),
    ),
}
