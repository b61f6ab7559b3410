"""GSM8K from a local file, from a folder and from the hub's client."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ponder.core.errors import ConfigurationError, DataError, ResourceError
from ponder.core.types import Outcome
from ponder.tasks.gsm8k import Gsm8k

SHARED = Path(__file__).parents[2] / "shared" / "data"
ROWS = [
    {
        "question": f"Ann has {n} pens and buys {n} more, at $1,000 each. What does she pay?",
        "answer": f"She buys <<{n}*1=1>>{n} pens.\nShe pays <<{n}*1000>>{n},000 dollars.\n#### {n},000",
        "final": f"{n},000",
    }
    for n in range(1, 60)
]


def written(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_row_becomes_a_problem(tmp_path: Path) -> None:
    (problem,) = Gsm8k(path=written(tmp_path / "a.jsonl", ROWS[:1]), test_share=0).problems("train", 9, 0)
    assert problem.prompt == ROWS[0]["question"]
    assert problem.answer == "1,000"
    assert problem.meta["steps"] == 2
    assert problem.meta["solution"] == (
        "<think>\nShe buys 1 pens.\nShe pays 1,000 dollars.\n</think>\n\nThe answer is 1,000."
    )
    assert Gsm8k().verifier(problem, "So it is $1000.00.").outcome is Outcome.CORRECT


def test_one_file_is_split_and_a_folder_has_its_own_splits(tmp_path: Path) -> None:
    one = Gsm8k(path=written(tmp_path / "all.jsonl"), test_share=0.3)
    train, test = ({p.prompt for p in one.problems(split, 99, 0)} for split in ("train", "test"))
    assert train and test and not train & test and len(train | test) == 59
    written(tmp_path / "train.jsonl", ROWS[:50])
    written(tmp_path / "test.jsonl", ROWS[50:])
    folder = Gsm8k(path=tmp_path)
    assert [len(list(folder.problems(split, 99, 0))) for split in ("train", "test")] == [50, 9]


def test_an_instruction_is_appended_only_when_asked(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", ROWS[:1])
    (problem,) = Gsm8k(path=path, test_share=0, instruction="Think first.").problems("train", 9, 0)
    assert problem.prompt == f"{ROWS[0]['question']}\n\nThink first."


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "q", "answer": "18"}, "no `####`"),
        ({"question": "q"}, "'answer' is missing"),
        ({"question": "q", "answer": 18}, "'answer' is a number"),
    ],
)
def test_a_row_of_another_kind_is_refused(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    path = written(tmp_path / "a.jsonl", [*ROWS[:2], row])
    with pytest.raises(DataError, match=reason) as error:
        list(Gsm8k(path=path).problems("train", 9, 0))
    assert error.value.where == f"{path}:3"


def test_the_hub_is_read_through_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        asked.append((args, kwargs))
        return ROWS[:7]

    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(load_dataset=load))
    assert len(list(Gsm8k(revision="abc").problems("test", 99, 0))) == 7
    assert asked == [(("openai/gsm8k", "main"), {"split": "test", "revision": "abc"})]


def test_without_the_client_or_the_network_the_next_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name=name)

    def offline(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ResourceError) as error:
        list(Gsm8k().problems("test", 1, 0))
    assert "pip install 'ponder[hub]'" in error.value.fix
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(load_dataset=offline))
    with pytest.raises(ResourceError, match="ConnectionError") as error:
        list(Gsm8k().problems("test", 1, 0))
    assert "path: FILE.jsonl" in error.value.fix
    assert error.value.exit_code == 3


def test_an_unknown_split_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        list(Gsm8k().problems("longer", 1, 0))
    with pytest.raises(ResourceError):
        list(Gsm8k(path=tmp_path / "none.jsonl").problems("train", 1, 0))


def test_every_real_solution_is_right_by_its_own_answer() -> None:
    path = SHARED / "gsm8k" / "train.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    task = Gsm8k(path=path, test_share=1)
    problems = list(task.problems("test", 10_000, 0))
    assert len(problems) == len({p.id for p in problems}) == 7473
    assert all("<<" not in str(p.meta["solution"]) for p in problems)
    assert all(task.verifier(p, str(p.meta["solution"])).outcome is Outcome.CORRECT for p in problems[:700])
    assert all(task.verifier(p, str(p.answer)).outcome is Outcome.CORRECT for p in problems[::4])
