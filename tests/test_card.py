"""The card of a trained model: forbidding terms first, nothing invented, and nothing that breaks out of its place."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ponder import cli
from ponder.core.errors import ResourceError
from ponder.core.types import Completion, Problem, Trace, Verdict
from ponder.measure.terms import Terms
from ponder.recipe import build_recipe
from ponder.report.card import Facts, Score, Step, model_card
from ponder.report.provenance import facts_of, write_card
from ponder.runner import run_recipe
from ponder.runs.log import Log
from ponder.stages._traces.files import row_of, write_rows

TASKS = [{"use": "skills", "max_steps": 1}]


def test_terms_that_forbid_training_stand_before_everything_else() -> None:
    teachers = {"good": Terms(licence="mit", training="allowed"), "bad": Terms(training="forbidden", note="section 2")}
    card = model_card(Facts("m", "base", Terms(licence="apache-2.0", training="allowed"), teachers=teachers))
    warning = card.index("The terms of bad forbid training on its answers (section 2)")
    assert warning < card.index("## Terms") and card.index("# m") < warning
    assert yaml.safe_load(card.split("---")[1])["license"] == "other"
    del teachers["bad"]
    free = model_card(Facts("m", "base", Terms(licence="apache-2.0", training="allowed"), teachers=teachers))
    assert "forbid" not in free and yaml.safe_load(free.split("---")[1])["license"] == "apache-2.0"


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    card = model_card(Facts("m", "org/base", teachers={"t": Terms()}))
    assert "Whether the answers of t may be learnt from is not known" in card
    assert "Not evaluated in this run." in card and "Not checked" in card
    assert "nothing is known of how well it answers" in card and "| org/base | base model | unknown |" in card


def test_every_rate_has_its_count_and_interval() -> None:
    scores = [Score("m", True, "evaluate: x, test", 1500, 0.5, 0.47, 0.53, 0.01, 0.0), Score("b", False, "e", 9, None)]
    step = Step("distill", "distill", {"kept": 7, "wrong": 3, "surplus": 0}, ["gsm8k"])
    card = model_card(Facts("m", "base", steps=[step], scores=scores))
    assert "| **m** | evaluate: x, test | 1,500 | 50.0 % | 47.0 % to 53.0 % | 1.0 % | 0.0 % |" in card
    assert "| b | e | 9 | - | - | - | - |" in card
    assert "- distill: 7 kept, 3 wrong; judged by the verifiers of gsm8k" in card
    assert "fewer than 100" not in card


def test_hostile_names_stay_text() -> None:
    evil = "x|y\n# <script>alert(1)</script> [a](b) `c` ---"
    facts = Facts(evil, evil, teachers={evil: Terms(licence=evil, note=evil)}, scores=[Score(evil, True, evil, 1, 0.5)])
    card = model_card(facts)
    body = card.split("\n---\n", 1)[1]
    assert "<script>" not in body and "\n# <" not in body and "[a](b)" not in body
    metadata = yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))
    assert metadata["tags"] == ["reasoning", "ponder"]
    table = card[card.index("## Terms") : card.index("## Data")]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {7}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card") / "run"
    stages: dict[str, Any] = {
        "generate": {
            "model": {"worked": "solutions", "hosted": "solutions"}, "tasks": TASKS, "problems": 12,
            "terms": {"hosted": {"training": "forbidden"}, "worked": {"licence": "mit", "training": "allowed"}},
        },
        "select": {"traces": "generate", "policy": "shortest", "keep": 1, "mix": {"teachers": {"worked": 1}}},
        "distill": {"model": "pocket-base", "traces": "generate", "steps": 1, "examples_per_step": 2},
        "again": {"use": "distill", "model": "distill", "traces": "select", "steps": 1, "examples_per_step": 2},
        "evaluate": {
            "models": {"before": "pocket-base", "after": "again"}, "tasks": TASKS, "limit": 1, "max_new_tokens": 8,
        },
    }  # fmt: skip
    run_recipe(build_recipe({"name": "carded", "seed": 4, "stage": stages}), folder, Log.silent())
    return folder


def test_a_run_tells_where_its_model_comes_from(run: Path) -> None:
    facts = facts_of(run / "again")
    assert facts.base == "pocket-base" and facts.base_terms.licence == "apache-2.0" and facts.seed == 4
    assert list(facts.line) == ["distill", "again"]
    assert [step.name for step in facts.steps] == ["generate", "distill", "select", "again"]
    assert facts.teachers["hosted"].training == "forbidden", "the first training read all traces"
    own = [score for score in facts.scores if score.own]
    assert [(score.model, score.n) for score in own] == [("after", 6)] and len(facts.scores) == 2
    kept = json.loads((run / "again" / "summary.json").read_text())["traces"]["kept"]
    assert facts.steps[-1].counts["kept"] == kept
    assert "arithmetic:test" in model_card(facts), "what was compared with is in the card"


def test_a_teacher_whose_traces_were_all_left_out_is_not_its_teacher(run: Path) -> None:
    identity = run / "again" / "stage.json"
    before = identity.read_text()
    changed = json.loads(before)
    changed["settings"]["model"] = "pocket-base"
    identity.write_text(json.dumps(changed))
    try:
        facts = facts_of(run / "again")
        assert [step.name for step in facts.steps] == ["generate", "select", "again"]
        assert list(facts.teachers) == ["worked"]
    finally:
        identity.write_text(before)


def test_the_card_is_written_beside_the_weights(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ponder", "card", str(run / "distill")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None)
    path = run / "distill" / "model" / "README.md"
    assert capsys.readouterr().out.strip() == str(path)
    assert "forbid training" in path.read_text() and "Not evaluated" in path.read_text()
    hooked = write_card(run / "distill", {"parameters": 5, "traces": {"kept": 99}})
    assert "99 kept" in hooked.read_text() and "5 parameters" in hooked.read_text()
    for folder in (run / "generate", run / "nothing"):
        with pytest.raises(ResourceError):
            write_card(folder)


def test_traces_from_a_file_bring_their_terms_or_are_unknown(tmp_path: Path) -> None:
    problem = Problem(id="1", task="gsm8k", prompt="1+1?", answer=2)
    trace = Trace(problem=problem, completion=Completion(text="The answer is 2."), verdict=Verdict.correct("2"))
    write_rows(tmp_path / "t.jsonl", [row_of(trace)])
    stage = {"model": "pocket-base", "traces": str(tmp_path / "t.jsonl"), "steps": 1, "examples_per_step": 1}
    run_recipe(build_recipe({"name": "x", "stage": {"distill": stage}}), tmp_path / "run", Log.silent())
    assert facts_of(tmp_path / "run" / "distill").teachers["t.jsonl"].training == "unknown"
    (tmp_path / "t.terms.json").write_text('{"r1": {"licence": "llama3", "training": "forbidden"}}')
    assert "The terms of r1 forbid" in model_card(facts_of(tmp_path / "run" / "distill"))
