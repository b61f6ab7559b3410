"""A model is shipped when its licences allow it, or when a person says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ponder.cli import app
from ponder.models.load import resolve_model
from ponder.report.release import unclear_terms


def licensed(folder: Path, licence: str | None) -> str:
    folder.mkdir(exist_ok=True)
    head = f"---\nlicense: {licence}\n---\n" if licence else "# a model\n"
    (folder / "README.md").write_text(head, encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize(
    ("licence", "said"),
    [("apache-2.0", None), ("cc-by-nc-4.0", None), ("house-rules", "house-rules"), (None, "no licence")],
)
def test_the_licence_of_a_base_model(tmp_path: Path, licence: str | None, said: str | None) -> None:
    found = unclear_terms(tmp_path / "export", licensed(tmp_path / "base", licence))
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_teachers_that_forbid_and_teachers_that_say_nothing(tmp_path: Path) -> None:
    base = licensed(tmp_path / "base", "mit")
    stages = {"made": {}, "learn": {"model": base, "traces": ["made"]}}
    for name, settings in stages.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "stage.json").write_text(json.dumps({"use": name, "settings": settings}), encoding="utf-8")
    terms = {
        "strict": {"licence": "llama3", "training": "forbidden", "note": "never to be learnt from"},
        "silent": {"training": "unknown"},
        "free": {"licence": "mit", "training": "allowed"},
    }
    (tmp_path / "made" / "terms.json").write_text(json.dumps(terms), encoding="utf-8")
    found = unclear_terms(tmp_path / "export", "learn")
    assert len(found) == 2
    assert "strict: never to be learnt from" in found[0] and "silent" in found[1]


def test_nothing_is_computed_before_somebody_has_confirmed(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(resolve_model("pocket-base"), bare, ignore=shutil.ignore_patterns("README.md"))
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["export", str(bare), "--out", str(out)])
    assert done.exit_code == 2 and "--confirm-terms" in done.output and "no licence" in done.output
    assert not list(out.rglob("*.gguf"))
