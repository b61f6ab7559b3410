"""A marked text through every stage: where it may lie, where it must not, who may read it, and how it is purged."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from ponder import _cli_purge, cli
from ponder.core.errors import ConfigurationError
from ponder.core.types import Completion, Usage
from ponder.engines._openai.purchases import Purchases
from ponder.runs.journal import Journal, read_rows
from ponder.runs.pack import read_pack
from ponder.runs.purge import PURGED, find

MARK, SUBJECT = "ZZPHIZZ", "patient-3"
TASK = {
    "use": "jsonl", "path": "data.jsonl", "verifier": "number", "answer": "answer", "solution": "solution", "id": "id",
    "test_share": 0.4,
}  # fmt: skip
SHORT = {"tasks": [TASK], "max_new_tokens": 12}
TRAIN = {"model": "pocket-base", "steps": 1, "decontaminate": False, "examples_per_step": 4}
STAGES = {
    "generate": {**SHORT, "model": "solutions", "decontaminate": False, "problems": 12, "chunk": 4},
    "grade": {"model": "pocket-base", "traces": "generate", "samples": 1, "max_new_tokens": 12},
    "select": {"traces": "generate"},
    "pack": {"model": "pocket-base", "traces": "generate", "top_k": 2, "decontaminate": False},
    "distill": {**TRAIN, "traces": "select"},
    "reinforce": {**SHORT, "model": "pocket-base", "problems": 4, "steps": 1,
                  "problems_per_step": 2, "group_size": 2,
                  "tripwires": {"cheats": 0.0}},
    "evaluate": {**SHORT, "models": {"a": "distill"}, "splits": ["test"], "limit": 3},
}  # fmt: skip
MAY_HOLD = ("traces.jsonl", "traces.parquet", "pack.parquet", "alarms.json", "alarms.md", "report.html")
"""Files that are there to hold texts, besides the journals of an evaluation; everything else may not."""


class Marked(NamedTuple):
    """A run over marked data."""

    run: Path
    said: str
    """All that its processes wrote to their streams."""


class Told(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def ponder_says(folder: Path, *arguments: str) -> Told:
    """The command in this process, working in `folder` under an umask that hides nothing."""
    (folder / "temporary").mkdir(exist_ok=True)
    out, error, code = io.StringIO(), io.StringIO(), 0
    before = os.umask(0)
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(error):
        patched.chdir(folder)
        patched.setattr(sys, "path", [*sys.path, str(folder)])
        patched.setattr(sys, "argv", ["ponder", *arguments])
        patched.setattr(tempfile, "tempdir", str(folder / "temporary"))
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            os.umask(before)
    return Told(code, out.getvalue(), error.getvalue())


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Marked:
    """Every stage over marked data."""
    folder = tmp_path_factory.mktemp("marked")
    rows = [
        {
            "id": f"patient-{i}", "prompt": f"{MARK}{i} has {i} apples and is given {i + 1} more. How many are there?",
            "answer": str(2 * i + 1),
            "solution": f"<think>{MARK}{i}: {i} + {i + 1}.</think>\nThe answer is {2 * i + 1}.",
        }
        for i in range(1, 17)
    ]  # fmt: skip
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "phi.yaml").write_text(json.dumps({"name": "phi", "stage": STAGES}))
    paused = ponder_says(folder, "run", "phi.yaml", "--out", "run")
    assert paused.returncode == 1 and "paused before learning from step 0" in paused.stderr, paused.stderr
    off = ["--set", "stage.reinforce.tripwires.cheats=off"]
    told = ponder_says(folder, "run", "phi.yaml", "--out", "run", *off)
    assert told.returncode == 0, told.stderr
    page = ponder_says(folder, "report", "run")
    ledger = ponder_says(folder, "ledger", "run", "--answers")
    assert page.returncode == ledger.returncode == 0, page.stderr + ledger.stderr
    return Marked(folder / "run", "".join(each.stdout + each.stderr for each in (paused, told, page, ledger)))


def files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def holds(path: Path, text: str) -> bool:
    """Whether a file holds a text, unpacked where it is packed."""
    if path.suffix == ".parquet":
        return text in str(pq.read_table(path).to_pydict())
    return text.encode() in path.read_bytes()


# -- where it lies --


def test_the_text_is_only_where_texts_are_kept(marked: Marked) -> None:
    found = {path.name for path in files(marked.run) if holds(path, MARK) and path.parent.name != "evaluate"}
    assert found, "the guard itself would see it"
    assert not found - set(MAY_HOLD)
    assert {"traces.jsonl", "traces.parquet", "pack.parquet"} <= found


def test_streams_temporary_files_and_names_do_not_tell_it(marked: Marked) -> None:
    assert MARK not in marked.said
    left = marked.run.parent / "temporary"
    assert not [path for path in files(left) if holds(path, MARK)]
    assert not [path for path in marked.run.parent.rglob("*") if MARK.lower() in path.name.lower()]


CRASHING = """
class Crash:
    def __call__(self, problem, response):
        raise ValueError(f"cannot read {problem.prompt}")

plugin = Crash
"""


def test_errors_do_not_quote_what_they_choked_on(marked: Marked) -> None:
    folder = marked.run.parent
    (folder / "choking.py").write_text(CRASHING)
    (folder / "bad.jsonl").write_text(json.dumps({"prompt": f"{MARK}?", "id": "1"}) + "\n")
    (folder / "torn.jsonl").write_text('{"prompt": "' + MARK)
    wrong = [
        ["verify", "--verifier", "choking", "cases.jsonl"],
        ["distill", "--model", "pocket-base", "--traces", "torn.jsonl", "--out", "o1"],
        ["evaluate", "--model", "pocket-base", "--task", "jsonl", "--data", "bad.jsonl", "--out", "o2"],
        ["evaluate", "--model", "pocket-base", "--task", "jsonl", "--data", "torn.jsonl", "--out", "o3"],
        ["traces", "import", "bad.jsonl", "--task", "arithmetic", "--out", "o4.jsonl"],
    ]
    (folder / "cases.jsonl").write_text(json.dumps({"answer": "1", "response": MARK}) + "\n")
    for arguments in wrong:
        told = ponder_says(folder, *arguments)
        assert told.returncode or arguments[0] == "verify", arguments
        assert MARK not in told.stderr, f"{arguments}: {told.stderr}"


def test_an_unexpected_error_says_its_place_and_not_its_words(tmp_path: Path) -> None:
    (tmp_path / "boom").mkdir()
    (tmp_path / "boom" / "here.py").write_text(
        "from ponder.stages._stage import Estimate, Stage\n"
        "class Boom(Stage):\n"
        "    def __call__(self, context):\n"
        f"        raise KeyError('{MARK}')\n"
        "    def estimate(self, context):\n"
        "        return Estimate(0, 0, 0, 0.0)\n"
        "plugin = Boom\n"
    )
    (tmp_path / "boom.yaml").write_text("name: boom\nstage:\n  one: {use: boom.here}\n")
    told = ponder_says(tmp_path, "run", "boom.yaml", "--out", "run")
    assert told.returncode == 1 and MARK not in told.stderr
    assert "unexpected KeyError" in told.stderr and "--verbose" in told.stderr
    assert MARK not in "".join(path.read_text() for path in files(tmp_path / "run"))
    assert MARK in ponder_says(tmp_path, "run", "boom.yaml", "--out", "run", "--verbose").stderr


# -- who may read it --


def test_nobody_else_may_read_a_run_whatever_the_umask(marked: Marked) -> None:
    open_to_others = {
        str(path.relative_to(marked.run)): oct(stat.S_IMODE(path.stat().st_mode))
        for path in [marked.run, *marked.run.rglob("*")]
        if path.stat().st_mode & 0o077
    }
    assert not open_to_others


def test_traces_that_are_written_elsewhere_are_private_too(marked: Marked) -> None:
    folder = marked.run.parent
    told = ponder_says(folder, "traces", "export", "run/generate", "--to", "messages", "--out", "out/chat.jsonl")
    assert told.returncode == 0, told.stderr
    assert stat.S_IMODE((folder / "out" / "chat.jsonl").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "out").stat().st_mode) == 0o700


# -- purge --


@pytest.fixture
def copied(marked: Marked, tmp_path: Path) -> Path:
    return Path(shutil.copytree(marked.run, tmp_path / "run"))


def purge(run: Path, *subjects: str, yes: bool = True, older_than: str | None = None) -> None:
    _cli_purge.purge(run, older_than, subjects, yes=yes, as_json=False)


def state(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in files(run) if path.name != ".lock"}


def test_without_yes_it_only_lists(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = state(copied)
    purge(copied, yes=False)
    told = capsys.readouterr().out
    assert state(copied) == before
    assert "generate/traces.jsonl  whole file" in told and "add --yes" in told
    assert "weights of distill, reinforce" in told


def test_everything_goes_and_figures_stay(copied: Path) -> None:
    purge(copied)
    assert not [path for path in files(copied) if holds(path, MARK)]
    assert (copied / "distill" / "summary.json").exists() and (copied / "distill" / "metrics.jsonl").exists()
    assert (copied / "distill" / "model" / "config.json").exists()
    assert not find(copied), "a second purge finds nothing"


def test_a_subject_goes_from_journals_parquet_and_packs_and_others_stay(copied: Path) -> None:
    said = [row["completion"]["text"] for row in read_rows(copied / "generate" / "traces.jsonl")]
    ids = [row["problem"]["id"] for row in read_rows(copied / "generate" / "traces.jsonl")]
    subject = ids[0]
    bought = Purchases(copied / "generate" / "purchases")
    for key, text in zip(ids, said, strict=True):
        usage = Usage(prompt_tokens=3, completion_tokens=5)
        bought.bought([key], [Completion(text=text, usage=usage)], usage, 0.5, 1.0)
    purge(copied, subject)
    assert not [path for path in files(copied) if holds(path, f'"{subject}"') or holds(path, f"'{subject}'")]
    number = subject.removeprefix("patient-")
    assert not [path for path in files(copied) if holds(path, f"{MARK}{number} ") or holds(path, f"{MARK}{number}:")]
    for name in ("traces.jsonl", "traces.parquet"):
        assert [row["problem"]["id"] for row in read_rows(copied / "generate" / name)] == ids[1:]
    assert [row.trace.problem.id for row in read_pack(copied / "pack" / "pack.parquet")] == ids[1:]
    left = Purchases(copied / "generate" / "purchases")
    assert subject not in left and ids[1] in left
    assert left.cost == pytest.approx(0.5 * len(ids)), "what was paid is still true"
    assert not find(copied, {subject}), "a second purge finds nothing"


def test_a_subject_named_in_meta_and_in_words_goes(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "summary.json").write_text(json.dumps({"worst": [{"id": SUBJECT, "x": 1}], "n": 3}))
    journal = Journal(tmp_path / "one" / "traces.jsonl")
    journal.append_all([{"problem": {"id": "1", "meta": {"ward": SUBJECT}}}, {"problem": {"id": "2", "meta": {}}}])
    Journal(tmp_path / "events.jsonl").append({"text": f"line 1 = {SUBJECT} (exact), line 2 = {SUBJECT}3"})
    purge(tmp_path, SUBJECT)
    assert [row["problem"]["id"] for row in read_rows(tmp_path / "one" / "traces.jsonl")] == ["2"]
    assert json.loads((tmp_path / "one" / "summary.json").read_text()) == {"worst": [], "n": 3}
    (event,) = read_rows(tmp_path / "events.jsonl")
    assert event["text"] == f"line 1 = {PURGED} (exact), line 2 = {SUBJECT}3", "another name is not touched"


def test_only_what_is_old_enough_goes(copied: Path) -> None:
    old = copied / "select" / "traces.jsonl"
    os.utime(old, (time.time() - 40 * 86_400,) * 2)
    purge(copied, older_than="30d")
    assert not old.exists() and (copied / "generate" / "traces.jsonl").exists()


def test_what_would_come_back_or_is_no_run_is_refused(copied: Path, tmp_path: Path) -> None:
    (copied / "generate" / "summary.json").unlink()
    (row, *_) = read_rows(copied / "generate" / "traces.jsonl")
    with pytest.raises(ConfigurationError, match="'generate' is not done"):
        purge(copied, row["problem"]["id"])
    with pytest.raises(ConfigurationError, match="not the folder of a run"):
        purge(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="no duration"):
        purge(copied, older_than="soon")
    link = copied / "generate" / "linked.jsonl"
    outside = tmp_path / "outside.jsonl"
    outside.write_text("{}\n")
    link.symlink_to(outside)
    purge(copied)
    assert outside.read_text() == "{}\n", "a link leads nowhere"
