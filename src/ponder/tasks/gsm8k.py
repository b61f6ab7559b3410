"""GSM8K: grade-school maths word problems, from a local file or from the Hugging Face Hub.

Source: Cobbe et al. 2021 (arXiv:2110.14168), 7,473 training and 1,319 test problems; a solution ends with
`#### N`.

Published protocol: the answer is the number behind `####`, compared exactly, over all 1,319 test problems.
Base models are mostly asked with 8 worked examples in the prompt (Wei et al. 2022, arXiv:2201.11903) and
decoded greedily; reasoning models with the bare question and sampling. Here the prompt is the question and
nothing else, unless `instruction` adds something: say so when you compare with a published number.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from ponder.core.errors import ConfigurationError, ResourceError
from ponder.core.plugins import load_plugin
from ponder.core.protocols import Task, Verifier
from ponder.core.types import Problem, Record
from ponder.tasks._rows import BadRow, BadRowPolicy, Row, RowReport, made, read_rows, text_at
from ponder.tasks._selection import Draft, choose, in_test, problem_of, solved

HUB_ID = "openai/gsm8k"
_CALCULATION = re.compile(r"<<[^<>\n]*>>")


class Gsm8k(Record):
    """Grade-school maths word problems, from the hub or a local JSONL file."""

    name: ClassVar[str] = "gsm8k"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    path: Path | None = None
    """JSONL with `question` and `answer` (ending `#### N`), or a folder with train.jsonl and test.jsonl; None
    reads the hub."""
    test_share: float = Field(default=0.2, ge=0.0, le=1.0)
    """Share of a single file that is its test split, picked by the hash of the question."""
    revision: str | None = None
    """Commit of the hub's data set; None is the newest."""
    instruction: str = ""
    """Appended to every question, behind an empty line."""
    on_bad_row: BadRowPolicy = "error"
    """Stop at the first row that cannot be used, or skip such rows and report how many and why."""

    @property
    def verifier(self) -> Verifier:
        """Compares numbers exactly."""
        return load_plugin("verifiers", "number")

    def problems(self, split: str, limit: int, seed: int) -> Iterator[Problem]:
        """At most `limit` problems in an order that the seed decides.

        Raises:
            DataError: If the file, or under `on_bad_row: error` a row of it, cannot be used.
            ResourceError: If the file is missing, or the hub cannot be read.
        """
        if split not in self.splits:
            raise ConfigurationError(f"task {self.name!r} has no split {split!r}", fix="choose train or test")
        shared = self.path is not None and not self.path.is_dir()
        place = (
            self.path / f"{split}.jsonl"
            if self.path and not shared
            else self.path or Path(f"{HUB_ID}:{split}")
        )
        report = RowReport(place, self.on_bad_row)
        rows = read_rows(report) if self.path else _hub_rows(report, split, self.revision)
        drafts = (draft for _, draft in made(report, rows, self._draft))

        def belongs(key: int) -> bool:
            return not shared or in_test(key, self.test_share) == (split == "test")

        for draft in choose(report, drafts, belongs, limit, seed):
            yield problem_of(draft, self.name, split)

    def _draft(self, row: Row) -> Draft:
        question, worked = text_at(row.data, "question"), text_at(row.data, "answer")
        if "####" not in worked:
            raise BadRow("the field 'answer' has no `####` in front of a final answer")
        answer, solution = solved(_CALCULATION.sub("", worked))
        prompt = f"{question}\n\n{self.instruction}" if self.instruction else question
        meta = {
            "steps": len(_CALCULATION.findall(worked)) or None,
            **({"solution": solution} if solution else {}),
        }
        return Draft(row.line, prompt, answer, None, meta)


def _hub_rows(report: RowReport, split: str, revision: str | None) -> Iterator[Row]:
    """Rows of the hub's data set; downloaded once, then read from its cache."""
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError as error:
        raise ResourceError(
            "reading GSM8K from the hub needs the package 'datasets'",
            fix="pip install 'ponder[hub]', or give a local file: path: FILE.jsonl",
        ) from error
    try:
        table = datasets.load_dataset(HUB_ID, "main", split=split, revision=revision)
    except Exception as error:  # the hub's client raises many kinds; all mean that the data are not here
        raise ResourceError(
            f"GSM8K cannot be read from the hub ({type(error).__name__})",
            where=HUB_ID,
            fix="run once with a network, later runs read the cache; or give a local file: path: FILE.jsonl",
        ) from error
    for line, data in enumerate(table, 1):
        report.rows += 1
        yield Row(line, data)


plugin: type[Task] = Gsm8k
