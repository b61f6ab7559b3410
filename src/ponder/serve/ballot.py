"""A vote among the answers of one request, which may be decided before all of them are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ponder.core.answers import final_answer
from ponder.core.types import Completion
from ponder.serve.engine import Answer


class Ballot:
    """Counts equal final answers as they come.

    Args:
        votes: Answers that are drawn; None or 1: there is no vote, and it is never decided.
    """

    def __init__(self, votes: int | None) -> None:
        """Nobody has voted."""
        self._left = votes if votes is not None and votes > 1 else None
        self._counts: Counter[str] = Counter()

    def add(self, completion: Completion) -> None:
        """One more answer; one that says nothing is no vote."""
        if self._left is None:
            return
        self._left -= 1
        if (vote := vote_of(completion)) is not None:
            self._counts[vote] += 1

    @property
    def decided(self) -> bool:
        """Whether no answer can overtake the leading one any more."""
        if self._left is None or not self._counts:
            return False
        (_, first), *others = self._counts.most_common(2)
        return first > (others[0][1] if others else 0) + self._left


def vote_of(completion: Completion) -> str | None:
    """The final answer that a completion gives, in the spelling in which votes are compared."""
    text = final_answer(completion.text).text
    return None if text is None else " ".join(text.casefold().split())


def chosen(answers: Sequence[Answer], votes: int | None) -> list[Answer]:
    """The answers that are told: all, or of a vote the first sample that gives the answer of most."""
    if votes is None or votes < 2:
        return list(answers)
    counts = Counter(vote for answer in answers if (vote := vote_of(answer.completion)) is not None)
    ordered = sorted(answers, key=lambda answer: answer.sample)
    best = max(ordered, key=lambda answer: counts[vote_of(answer.completion) or ""])  # the first of equals
    return [Answer(0, best.completion, best.scores)]
