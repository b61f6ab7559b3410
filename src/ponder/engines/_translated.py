"""A teacher's distributions in the student's tokens: matched, merged where the text shows how, and a tail.

A row is given where a token of both begins at the same byte. The teacher's mass on a token goes to the student's
counterpart of it (`models/translation.py`). The mass of the group that follows (the product of its tokens, GOLD's
"observed" merge) is taken from the teacher's first token and given to the student's first one, because that is the
token which the student writes there. What no token of the student begins with goes to the tail; a row adds up to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ponder.core.types import IntArray, TopK
from ponder.engines._pairing import Pairing
from ponder.models.alignment import BoolArray
from ponder.models.translation import Translation

Masses = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TranslatedRows:
    """Distributions at some tokens of the student's completion."""

    places: IntArray  # (R,) tokens of the completion
    ids: IntArray  # (R, k) in falling order of mass, -1 behind the last
    masses: Masses  # (R, k) probabilities
    tail: Masses  # (R,)
    exact: float
    """Sum over rows of the mass on tokens that spell the same in both vocabularies, without what was merged."""
    begun: float
    """... on tokens that the student begins to spell with another one, and what was merged."""
    lost: float
    """... on listed tokens that the student cannot begin to spell."""
    unlisted: float
    """... that the teacher did not list."""


def translated_rows(pairing: Pairing, top: TopK, translation: Translation, student: IntArray, k: int) -> TranslatedRows:
    """Translate what a teacher expected along a completion.

    Args:
        pairing: The trace in both tokenizers.
        top: The teacher's, for its whole sequence, in its own ids.
        translation: Of its vocabulary.
        student: (T,) the student's completion.
        k: Tokens to keep of a row.
    """
    own = slice(pairing.prompt_length, None)
    listed, masses = top.ids[own], np.exp(top.logprobs[own].astype(np.float64))
    read = np.array(pairing.trace.completion.tokens or (), np.int32)
    count = int(pairing.theirs.max(initial=-1)) + 1
    firsts, places = _first_of_groups(pairing.theirs, count), _first_of_groups(pairing.ours, count)
    spoken = ~pairing.their_phantom[firsts] & ~pairing.our_phantom[places] & (listed[firsts] >= 0).any(1)
    group = spoken.nonzero()[0].astype(np.int32)
    firsts, places = firsts[group], places[group]
    ids, exact = translation.of(listed[firsts])
    unlisted = np.exp(top.tail[own][firsts].astype(np.float64))
    rows = masses[firsts]
    at, merged = _merged(pairing, listed, masses, read, count)
    moves = _moves(pairing, translation, read[firsts], student[places], group) & (merged[group] > 0.0)
    line = moves.nonzero()[0]
    rows[line, at[firsts[line]]] = np.maximum(rows[line, at[firsts[line]]] - merged[group[line]], 0.0)
    moved = float(merged[group[line]].sum())
    exact_mass, begun, lost = (float(rows[kind].sum()) for kind in (exact, (ids >= 0) & ~exact, ids < 0))
    ids = np.concatenate([ids, np.where(moves, student[places], -1)[:, None]], axis=1)
    rows = np.concatenate([rows, np.where(moves, merged[group], 0.0)[:, None]], axis=1)
    kept_ids, kept, rest = _largest(ids, rows, k)
    return TranslatedRows(
        places, kept_ids, kept, rest + unlisted, exact_mass, begun + moved, lost, float(unlisted.sum())
    )


def _first_of_groups(group: IntArray, count: int) -> IntArray:
    """(count,) place of the first token of every group; groups are consecutive."""
    inside = (group >= 0).nonzero()[0]
    return inside[np.searchsorted(group[inside], np.arange(count))].astype(np.int32)


def _merged(pairing: Pairing, listed: IntArray, masses: Masses, read: IntArray, count: int) -> tuple[IntArray, Masses]:
    """(T,) column of every token that was read in its own row, and (count,) mass of each group's tokens together.

    A group of which a token is not listed has mass 0: it is too small to be told apart.
    """
    hits = listed == read[:, None]
    at = hits.argmax(1).astype(np.int32)
    seen = np.where(hits.any(1), masses[np.arange(len(read)), at], 0.0)
    merged = np.ones(count)
    inside = pairing.theirs >= 0
    np.multiply.at(merged, pairing.theirs[inside], seen[inside])
    return at, merged


def _moves(
    pairing: Pairing, translation: Translation, first: IntArray, student: IntArray, group: IntArray
) -> BoolArray:
    """Whether a group's mass is to be moved from the teacher's first token's counterpart to the student's first token.

    Not where they are one, and not where the student spells in several what is one token of both vocabularies: there
    the teacher speaks for the one token.
    """
    ids, exact = translation.of(first)
    ours, theirs = (np.bincount(side[side >= 0])[group] for side in (pairing.ours, pairing.theirs))
    respelt = exact & (theirs == 1) & (ours > 1)
    return (ids != student) & ~respelt


def _largest(ids: IntArray, masses: Masses, k: int) -> tuple[IntArray, Masses, Masses]:
    """Masses of equal ids added up: the k largest of each row (R, k), and all the rest (R,), that of id -1 included."""
    count = len(ids)
    rest = np.where(ids < 0, masses, 0.0).sum(1)
    row, column = ((ids >= 0) & (masses > 0.0)).nonzero()
    order = np.lexsort((ids[row, column], row))
    row, token, mass = row[order], ids[row, column][order], masses[row, column][order]
    fresh = np.ones(len(row), np.bool_)
    fresh[1:] = (row[1:] != row[:-1]) | (token[1:] != token[:-1])
    begins = fresh.nonzero()[0]
    row, token = row[begins], token[begins]
    mass = np.add.reduceat(mass, begins) if len(begins) else mass
    order = np.lexsort((token, -mass, row))
    row, token, mass = row[order], token[order], mass[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    kept_ids, kept = np.full((count, k), -1, np.int32), np.zeros((count, k))
    inside = rank < k
    kept_ids[row[inside], rank[inside]] = token[inside]
    kept[row[inside], rank[inside]] = mass[inside]
    np.add.at(rest, row[~inside], mass[~inside])
    return kept_ids, kept, rest
