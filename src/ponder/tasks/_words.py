"""The words that procedural problems are told with: one bank to train on, one never seen in training.

Banks are kept small on purpose. A pocket tokenizer then holds nearly every word as one token.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WordBank:
    """Interchangeable words; every list of `HELD_OUT` is disjoint from that of `SEEN`."""

    names: tuple[str, ...]
    """First names of people."""
    things: tuple[tuple[str, str], ...]
    """Countable things, (singular, plural)."""
    places: tuple[str, ...]
    """Places with their article: `the kitchen`."""
    traits: tuple[str, ...]
    """Adjectives that a person or thing can have: `brave`."""
    events: tuple[tuple[str, str], ...]
    """Things that can happen or not, (happens, does not): `the bell rings`, `the bell stays silent`."""
    goods: tuple[str, ...]
    """Things that can be owned and traded, without their article."""


def _events(happens: str, fails: str, *subjects: str) -> tuple[tuple[str, str], ...]:
    """One pair per subject: (`the SUBJECT HAPPENS`, `the SUBJECT FAILS`)."""
    return tuple((f"the {subject} {happens}", f"the {subject} {fails}") for subject in subjects)


SEEN = WordBank(
    names=(
        "Anna",
        "Ben",
        "Carla",
        "David",
        "Emma",
        "Finn",
        "Grace",
        "Henry",
        "Ida",
        "Jack",
        "Kate",
        "Leo",
        "Mia",
        "Noah",
        "Olga",
        "Paul",
        "Rosa",
        "Sam",
        "Tina",
        "Victor",
    ),
    things=(
        ("apple", "apples"),
        ("book", "books"),
        ("coin", "coins"),
        ("pen", "pens"),
        ("stamp", "stamps"),
        ("shell", "shells"),
        ("card", "cards"),
        ("marble", "marbles"),
        ("cup", "cups"),
        ("key", "keys"),
    ),
    places=(
        "the kitchen",
        "the garden",
        "the hall",
        "the attic",
        "the garage",
        "the office",
        "the library",
        "the cellar",
        "the market",
        "the school",
        "the park",
        "the harbor",
    ),
    traits=(
        "brave",
        "calm",
        "clever",
        "cheerful",
        "honest",
        "kind",
        "lucky",
        "patient",
        "polite",
        "proud",
        "quick",
        "quiet",
        "shy",
        "strong",
        "tall",
        "tidy",
        "tired",
        "wise",
        "young",
        "happy",
        "hungry",
        "gentle",
    ),
    events=(
        *_events("rings", "stays silent", "bell", "phone", "alarm"),
        *_events("glows", "stays dark", "lamp", "sign", "screen"),
        *_events("opens", "stays shut", "gate", "door", "window", "box"),
        *_events("spins", "stays still", "fan", "wheel", "mill"),
        *_events("starts", "stays off", "pump", "motor", "heater", "radio"),
        *_events("rises", "stays low", "flag", "kite", "bridge", "river"),
        *_events("wakes", "stays asleep", "dog", "cat", "baby", "guard"),
    ),
    goods=(
        "apple",
        "book",
        "coin",
        "pen",
        "stamp",
        "shell",
        "card",
        "marble",
        "cup",
        "key",
        "bell",
        "phone",
        "lamp",
        "sign",
        "box",
        "fan",
        "wheel",
        "radio",
        "flag",
        "kite",
        "rope",
        "ring",
        "hat",
        "map",
        "ball",
        "doll",
        "plate",
        "spoon",
    ),
)

HELD_OUT = WordBank(
    names=(
        "Aisha",
        "Boris",
        "Chloe",
        "Dmitri",
        "Elif",
        "Goran",
        "Hana",
        "Igor",
        "Jamal",
        "Keiko",
        "Luca",
        "Nadia",
        "Omar",
        "Priya",
        "Rafael",
        "Sofia",
        "Tariq",
        "Uma",
        "Wanda",
        "Yusuf",
    ),
    things=(
        ("ticket", "tickets"),
        ("ribbon", "ribbons"),
        ("button", "buttons"),
        ("melon", "melons"),
        ("candle", "candles"),
        ("basket", "baskets"),
    ),
    places=(
        "the tower",
        "the stable",
        "the museum",
        "the bakery",
        "the temple",
        "the station",
        "the castle",
        "the theater",
        "the clinic",
        "the bridge",
    ),
    traits=(
        "bold",
        "curious",
        "eager",
        "fierce",
        "graceful",
        "humble",
        "jolly",
        "loyal",
        "modest",
        "noble",
        "silly",
        "witty",
        "stubborn",
        "sincere",
        "careful",
        "friendly",
        "famous",
        "gifted",
        "lonely",
        "serious",
        "greedy",
        "nervous",
    ),
    events=(
        *_events("rings", "stays silent", "buzzer", "siren"),
        *_events("glows", "stays dark", "torch", "lantern", "candle"),
        *_events("opens", "stays shut", "hatch", "valve", "curtain"),
        *_events("spins", "stays still", "saw", "turbine", "propeller"),
        *_events("starts", "stays off", "boiler", "printer", "tractor"),
        *_events("rises", "stays low", "crane", "elevator", "balloon"),
        *_events("wakes", "stays asleep", "parrot", "rooster", "horse"),
    ),
    goods=(
        "ticket",
        "ribbon",
        "button",
        "melon",
        "candle",
        "basket",
        "torch",
        "lantern",
        "saw",
        "balloon",
        "curtain",
        "mirror",
        "scarf",
        "vase",
        "glove",
        "brush",
        "comb",
        "purse",
        "flute",
        "carpet",
        "puzzle",
        "pillow",
        "blanket",
        "statue",
        "necklace",
        "bottle",
        "helmet",
        "ladder",
    ),
)
