"""Which texts repeat an earlier one, word for word or nearly, and which of several texts differ most from each other.

Texts are compared by their pairs of neighbouring words in normal form (`contamination/normal_form.py`): their
similarity is the share of pairs that both have (Jaccard). Candidates are found by MinHash bands, so that thousands of
texts are not compared with one another; every candidate is then compared exactly.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ponder.measure.contamination.minhash import band_keys, signatures
from ponder.measure.contamination.normal_form import WordHashes, rolling, words

Shingles = frozenset[int]
FEW = 32
"""So many texts are compared with one another."""
DEVIATIONS = 5.0
"""A candidate whose signature is further below the similarity than so many standard deviations is not compared."""
LEAST = 0.6
"""A lower similarity is not reliably found by the bands of `contamination/minhash.py`."""
_HASHES = WordHashes()


def shingles(texts: Sequence[str]) -> list[Shingles]:
    """The pairs of neighbouring words of every text; of a single word, itself."""
    found: list[Shingles] = []
    for text in texts:
        hashes = np.array([_HASHES[word] for word in words(text)], np.uint64)
        found.append(frozenset(rolling(hashes, min(2, max(1, len(hashes)))).tolist()))
    return found


def similarity(a: Shingles, b: Shingles) -> float:
    """Shared pairs over all pairs of the two; two texts without any word are alike.

    Example:
        >>> a, b = shingles(["one two three", "one two four"])
        >>> round(similarity(a, b), 3)
        0.333
    """
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared) if a or b else 1.0


def repeats(texts: Sequence[str], least: float | None = None) -> list[int | None]:
    """For every text the earlier one that it repeats, None for those that stay.

    Args:
        texts: In the order of preference: of two that are alike the first stays.
        least: Similarity from which two are alike, at least 0.6; None finds equal texts only, whatever their case and
            spacing.
    """
    exact: dict[str, int] = {}
    found: list[int | None] = []
    for place, text in enumerate(texts):
        first = exact.setdefault(" ".join(text.casefold().split()), place)
        found.append(None if first == place else first)
    if least is None:
        return found
    staying = [place for place, first in enumerate(found) if first is None]
    for place, first in _near([texts[place] for place in staying], least).items():
        found[staying[place]] = staying[first]
    return found


def most_different(texts: Sequence[str], count: int) -> list[int]:
    """At most `count` texts that are far from each other: the first, then always the furthest from those chosen.

    Source:
        Gonzalez 1985, "Clustering to minimize the maximum intercluster distance": within twice the best spread.

    Example:
        >>> most_different(["add two and two", "add two and three", "multiply both sides"], 2)
        [0, 2]
    """
    sets = shingles(texts)
    chosen: list[int] = []
    nearest = [-1.0] * len(texts)  # similarity to the nearest chosen text
    while len(chosen) < min(count, len(texts)):
        rest = [place for place in range(len(texts)) if place not in chosen]
        best = min(rest, key=lambda place: (nearest[place], place))
        chosen.append(best)
        nearest = [max(near, similarity(sets[best], own)) for near, own in zip(nearest, sets, strict=True)]
    return sorted(chosen)


def _near(texts: Sequence[str], least: float) -> dict[int, int]:
    """By number, the earlier text that one is like; only texts that stay are compared with."""
    sets = shingles(texts)
    filled = [place for place, own in enumerate(sets) if own]
    if len(filled) <= FEW:
        return _near_of_few(sets, filled, least)
    members = np.concatenate([np.array(sorted(sets[place]), np.uint64) for place in filled])
    starts = np.cumsum([0, *(len(sets[place]) for place in filled)])[:-1].astype(np.int64)
    signed = signatures(members, starts)
    close = least - DEVIATIONS * math.sqrt(least * (1 - least) / signed.shape[1])
    buckets: dict[int, list[int]] = defaultdict(list)
    staying: list[int] = []
    found: dict[int, int] = {}
    for number, own_keys in enumerate(band_keys(signed).tolist()):
        met = [buckets[key] for key in own_keys if key in buckets]
        candidates = staying if sum(map(len, met)) > len(staying) else sorted({other for each in met for other in each})
        alike = (signed[candidates] == signed[number]).mean(axis=1) >= close if candidates else ()
        likely = (other for other, is_alike in zip(candidates, alike, strict=True) if is_alike)
        mine = sets[filled[number]]
        first = next((other for other in likely if similarity(mine, sets[filled[other]]) >= least), None)
        if first is not None:
            found[filled[number]] = filled[first]
            continue
        staying.append(number)
        for key in own_keys:
            buckets[key].append(number)
    return found


def _near_of_few(sets: Sequence[Shingles], filled: Sequence[int], least: float) -> dict[int, int]:
    """The same by comparing every pair."""
    found: dict[int, int] = {}
    staying: list[int] = []
    for place in filled:
        first = next((other for other in staying if similarity(sets[place], sets[other]) >= least), None)
        if first is None:
            staying.append(place)
        else:
            found[place] = first
    return found
