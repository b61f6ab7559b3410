"""How sentences become a prompt: layouts shared by skills that tell facts and ask a question."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

SEEN_LAYOUTS = (
    "{plain} {question}",
    "{plain}\n{question}",
    "{question} {plain}",
    "Here is what we know:\n{bullets}\n{question}",
    "{lines}\nQuestion: {question}",
    "Question: {question}\n{lines}",
)
"""Layouts to train on. `plain` runs on, `lines` has one sentence a line, `bullets` has dashes before them."""

HELD_OUT_LAYOUTS = (
    "Read this story. {plain} Now tell me: {question}",
    "Facts:\n{stars}\nTask: {question}",
    'Someone asks: "{question}" This is all you are told: {plain}',
)
"""Layouts never seen in training."""


def tell(rng: Random, layouts: Sequence[str], sentences: Sequence[str], question: str) -> str:
    """The prompt in one of the layouts, sentences in the order given."""
    layout = rng.choice(layouts)
    return layout.format(
        plain=" ".join(sentences),
        lines="\n".join(sentences),
        bullets="\n".join(f"- {sentence}" for sentence in sentences),
        stars="\n".join(f"* {sentence}" for sentence in sentences),
        question=question,
    )


def capitalised(sentence: str) -> str:
    """The sentence with a capital first letter, the rest as it is."""
    return sentence[:1].upper() + sentence[1:]


def mix_in(rng: Random, sentences: Sequence[str], extras: Sequence[str]) -> list[str]:
    """Sentences in their order with extras at random places among them."""
    mixed = list(sentences)
    for extra in extras:
        mixed.insert(rng.randint(0, len(mixed)), extra)
    return mixed
