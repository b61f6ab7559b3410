"""Any file of questions with answers: a user's own JSONL."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from ponder.core.errors import ConfigurationError, DataError
from ponder.core.plugins import load_plugin
from ponder.core.protocols import Task, Verifier
from ponder.core.types import Json, Message, Problem, Record
from ponder.tasks._formats import Asked, Format, Layout, ask, detect, layout_of
from ponder.tasks._rows import BadRow, BadRowPolicy, Row, RowReport, kind_of, made, read_rows
from ponder.tasks._selection import Draft, choose, in_test, problem_of, solved

PROBED_ROWS = 100
"""Rows whose columns decide the format."""
_log = logging.getLogger("ponder.tasks")


class Jsonl(Record):
    """Questions and answers of a JSONL file, checked by any verifier.

    The two splits never share a question: test is a file of its own, or the share of `path` that the hash of
    the question picks. A question of the test file that stands in `path` too is left out of training.
    """

    name: ClassVar[str] = "jsonl"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    path: Path
    """JSONL file; relative to the current folder."""
    test_path: Path | None = None
    """File of the test split; without one, `test_share` of `path` is."""
    test_share: float = Field(default=0.2, ge=0.0, le=1.0)
    """0 trains on everything, 1 tests on everything."""
    verifier_name: str = Field(default="exact", alias="verifier")
    """`exact`, `number`, `choice`, or the dotted name of a module of your own."""
    format: Format | Literal["auto"] = "auto"
    """How rows are laid out; `auto` looks at the columns and refuses to guess between two formats."""
    question: str | None = None
    """Column of the question."""
    answer: str | None = None
    """Column of the gold answer; conversations have it in the assistant's last turn."""
    solution: str | None = None
    """Column of a worked solution, when the answer stands apart from it."""
    id: str | None = None
    """Column of a unique id; without one, a problem is named by the hash of its question."""
    extract: bool = True
    """Take the final answer out of a worked solution (`... #### 18`); False keeps the whole cell as gold."""
    instruction: str = ""
    """Appended to every question, behind an empty line."""
    on_bad_row: BadRowPolicy = "error"
    """Stop at the first row that cannot be used, or skip such rows and report how many and why."""

    @property
    def verifier(self) -> Verifier:
        """The plug-in that `verifier` names."""
        plugin: Any = load_plugin("verifiers", self.verifier_name)
        return plugin() if isinstance(plugin, type) else plugin

    def problems(self, split: str, limit: int, seed: int) -> Iterator[Problem]:
        """At most `limit` problems in an order that the seed decides.

        Raises:
            DataError: If the file, or under `on_bad_row: error` a row of it, cannot be used.
            ResourceError: If the file is missing.
        """
        if split not in self.splits:
            raise ConfigurationError(f"task {self.name!r} has no split {split!r}", fix="choose train or test")
        own_file = self.test_path is not None
        report = RowReport(self.test_path if self.test_path and split == "test" else self.path, self.on_bad_row)
        tested = self._questions(self.test_path) if self.test_path and split == "train" else frozenset[int]()

        def belongs(key: int) -> bool:
            return key not in tested and (own_file or in_test(key, self.test_share) == (split == "test"))

        for draft in choose(report, self._drafts(report), belongs, limit, seed):
            yield problem_of(draft, self.name, split)

    def layout(self, path: Path) -> Layout:
        """How the rows of a file are read, as configured or as its columns say.

        Raises:
            DataError: If the columns fit no format, or several.
        """
        report = RowReport(path, self.on_bad_row)
        columns = dict.fromkeys(key for row in islice(read_rows(report), PROBED_ROWS) for key in row.data)
        if not columns:
            raise report.nothing_left()
        where = str(path)
        for column in (self.question, self.answer, self.solution, self.id):
            if column is not None and column not in columns:
                listed = ", ".join(map(repr, sorted(columns)))
                raise DataError(f"there is no column {column!r}", where=where, fix=f"the columns are {listed}")
        if self.format == "auto":
            found = detect(columns, self.question, self.answer, where)
            _log.info("%s: read as %s", path, found)
            return found
        return layout_of(self.format, columns, self.question, self.answer, where)

    def _drafts(self, report: RowReport) -> Iterator[Draft]:
        layout = self.layout(report.path)
        return (draft for _, draft in made(report, read_rows(report), lambda row: self._draft(row, layout)))

    def _draft(self, row: Row, layout: Layout) -> Draft:
        asked = ask(row.data, layout)
        answer, solution = self._answer(asked, row.data)
        prompt = instructed(asked.prompt, self.instruction)
        return Draft(row.line, prompt, answer, self._id(row.data), {"solution": solution} if solution else {})

    def _answer(self, asked: Asked, row: Json) -> tuple[JsonValue, str | None]:
        """Gold answer and worked response."""
        answer, solution = asked.answer, None
        told = row.get(self.solution) if self.solution else asked.demonstration
        if isinstance(answer, str) and self.extract:
            answer, solution = solved(answer)
        elif isinstance(answer, str) and not answer.strip():
            answer = None
        if told is not None and not isinstance(told, str):
            raise BadRow(f"the field {self.solution!r} is {kind_of(told)}, not text")
        return answer, solved(told, verbatim=True)[1] if told else solution

    def _id(self, row: Json) -> str | None:
        if self.id is None:
            return None
        value = row.get(self.id)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise BadRow(f"the field {self.id!r} is {kind_of(value)}, not an id")
        return str(value)

    def _questions(self, path: Path) -> frozenset[int]:
        """Keys of every question in a file."""
        report = RowReport(path, self.on_bad_row)
        return frozenset(draft.key for draft in self._drafts(report))


def instructed(prompt: str | tuple[Message, ...], instruction: str) -> str | tuple[Message, ...]:
    """The prompt with an instruction behind the user's last words."""
    if not instruction:
        return prompt
    if isinstance(prompt, str):
        return f"{prompt}\n\n{instruction}"
    *before, last = prompt
    return (*before, last.model_copy(update={"content": f"{last.content}\n\n{instruction}"}))


plugin: type[Task] = Jsonl
