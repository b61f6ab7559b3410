"""What was bought: every finished request with its answers and its cost, so that none is bought twice.

A row of the journal is one request. Rows are found again by their place in the file, so that a long journal is not held
in memory. Prompts are not stored, only names made of them; keys are nowhere.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from ponder.core.errors import DataError
from ponder.core.types import Completion, Json, Record, Usage
from ponder.runs.journal import Journal

FILE = "purchases.jsonl"


class Totals(Record):
    """What all attempts together used up."""

    requests: int = 0
    """That were paid for, answered or not."""
    completions: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    wasted_tokens: int = 0
    """Of both, in replies that were paid for and could not be used: cut, empty."""
    estimated_requests: int = 0
    """Whose tokens were guessed, because the server did not count them."""
    cost: float | None = 0.0
    """Money; None where a price is not known."""
    seconds: float = 0.0
    models: dict[str, int] = Field(default_factory=dict)
    """Completions by what the server called itself."""

    @property
    def tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


class Purchases:
    """The journal of purchases, or without a folder only its sums.

    Args:
        folder: Where `purchases.jsonl` lies or is to lie.

    Raises:
        DataError: If a row is damaged; a torn last line is no damage and is removed.
    """

    def __init__(self, folder: Path | None) -> None:
        self.path = None if folder is None else folder / FILE
        self._journal = None if self.path is None else Journal(self.path)
        self._places: dict[str, int] = {}
        self._sums: Counter[str] = Counter()
        self._cost: float | None = 0.0
        self._models: Counter[str] = Counter()
        self.seconds = 0.0
        """At the last row."""
        self.notes: list[Json] = []
        """Rows of other kinds, in order."""
        self.unpriced: list[tuple[int, int]] = []
        """(prompt, completion) tokens of rows whose cost was not known."""
        self._end = 0
        for place, row in self._rows():
            self._take(row, place)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def get(self, key: str) -> Completion | None:
        """A completion that was bought; None when it was not."""
        place = self._places.get(key)
        if place is None or self.path is None:
            return None
        with self.path.open("rb") as file:
            file.seek(place)
            line = file.readline()
        try:
            row = json.loads(line)
            return Completion.model_validate(row["completions"][row["keys"].index(key)])
        except (ValueError, KeyError, TypeError, IndexError, ValidationError):
            raise self._damaged(place) from None

    def bought(
        self, keys: Iterable[str], completions: Iterable[Completion], usage: Usage, cost: float | None, seconds: float
    ) -> None:
        """Store what one request gave; keys beyond the completions were not answered."""
        stored = [completion.model_dump(mode="json", exclude_defaults=True) for completion in completions]
        kept = list(keys)[: len(stored)]
        self._append({"kind": "answer", "keys": kept, "completions": stored, **_spent(usage, cost, seconds)})

    def wasted(self, why: str, usage: Usage, cost: float | None, seconds: float) -> None:
        """Store that a request was paid for and gave nothing to keep."""
        self._append({"kind": "waste", "why": why, **_spent(usage, cost, seconds)})

    def note(self, kind: str, **fields: Any) -> None:
        """Store something else that a restart must know."""
        self._append({"kind": kind, **fields})
        if self._journal is not None:
            self._journal.sync()

    def totals(self, seconds: float, cost: float | None) -> Totals:
        """Everything since the first attempt."""
        return Totals(**self._sums, models=dict(sorted(self._models.items())), seconds=round(seconds, 3), cost=cost)

    @property
    def tokens(self) -> int:
        """Prompt and completion together, of all attempts."""
        return self._sums["prompt_tokens"] + self._sums["completion_tokens"]

    @property
    def cost(self) -> float | None:
        """Of the rows whose cost was known."""
        return self._cost

    def _append(self, row: Json) -> None:
        place = self._end
        if self._journal is not None and self.path is not None:
            self._journal.append(row)
            self._end = self.path.stat().st_size
        self._take(row, place)

    def _take(self, row: Mapping[str, Any], place: int) -> None:
        """Count a row and remember where it lies."""
        self.seconds = max(self.seconds, float(row.get("seconds") or 0.0))
        if row["kind"] not in ("answer", "waste"):
            if row["kind"] != "clock":
                self.notes.append(dict(row))
            return
        prompt, sampled = int(row["prompt_tokens"]), int(row["completion_tokens"])
        self._sums.update(requests=1, prompt_tokens=prompt, completion_tokens=sampled)
        self._sums["estimated_requests"] += bool(row.get("estimated"))
        if row.get("cost") is None:
            self.unpriced.append((prompt, sampled))
        else:
            self._cost = (self._cost or 0.0) + float(row["cost"])
        if row["kind"] == "waste":
            self._sums["wasted_tokens"] += prompt + sampled
            return
        for key, completion in zip(row["keys"], row["completions"], strict=True):
            if self.path is not None:
                self._places.setdefault(key, place)
            self._sums["completions"] += 1
            self._models[str(completion.get("model", ""))] += 1

    def _rows(self) -> Iterator[tuple[int, Json]]:
        """(place, row) of everything in the file."""
        if self.path is None:
            return
        with self.path.open("rb") as file:
            for line in file:
                try:
                    row = json.loads(line)
                    if not isinstance(row, dict) or not isinstance(row["kind"], str):
                        raise ValueError
                    paid = row["kind"] in ("answer", "waste")
                    if paid and int(row["prompt_tokens"]) + int(row["completion_tokens"]) < 0:
                        raise ValueError
                    if row["kind"] == "answer" and len(row["keys"]) != len(row["completions"]):
                        raise ValueError
                except (ValueError, KeyError, TypeError):
                    raise self._damaged(self._end) from None
                yield self._end, row
                self._end += len(line)

    def _damaged(self, place: int) -> DataError:
        return DataError(
            "a row of the purchases is damaged, or another process writes to them",
            where=f"{self.path}, byte {place:,}",
            fix="remove that line (its answers are bought again), or move the file away to buy everything again",
        )


def _spent(usage: Usage, cost: float | None, seconds: float) -> Json:
    row: Json = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    row |= {"estimated": True} if usage.estimated else {}
    return {**row, "cost": cost, "seconds": round(seconds, 3)}
