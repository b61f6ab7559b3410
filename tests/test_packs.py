"""Teacher packs: what is written is read, damage is found, and a student learns from one as from the teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ponder.core.errors import ConfigurationError, DataError, Interrupted, ResourceError
from ponder.core.types import Completion, Problem, TopK, Trace, Verdict
from ponder.engines._pack_teacher import PackTeacher
from ponder.recipe import build_recipe
from ponder.runner import run_recipe
from ponder.runs.log import Log
from ponder.runs.pack import PackHeader, PackRow, PackWriter, read_header, read_pack
from ponder.stages import pack as pack_stage

TASKS = [{"use": "skills", "max_steps": 2}]
MUON = {"optimizer": "muon", "lr": 0.01, "outer_lr": 0.003}
FAST = {"problems": 60, "problems_per_step": 4, "group_size": 2, "max_new_tokens": 48, "steps": 2}
ROAD: dict[str, Any] = {
    "name": "taught",
    "stage": {
        "generate": {"model": "pocket-teacher", "tasks": TASKS, "problems": 40, "max_new_tokens": 96},
        "pack": {"model": "pocket-teacher", "traces": "generate", "top_k": 8, "chunk": 12},
        "packed": {
            "use": "distill", "model": "pocket-base", "traces": "pack", "objective": {"use": "kd", "top_k": 8},
            "steps": 3, "examples_per_step": 8, "optimisation": MUON,
        },
        "live": {
            "use": "distill", "model": "pocket-base", "traces": "generate", "objective": {"use": "kd", "top_k": 8},
            "teacher": {"arithmetic": "pocket-teacher", "*": "pocket-teacher"},
            "steps": 3, "examples_per_step": 8, "optimisation": MUON,
        },
        "opd": {
            "use": "reinforce", "model": "pocket-base", "tasks": TASKS, "teacher": "pocket-teacher",
            "objective": {"use": "opd", "reward_weight": 0.5}, "snapshots": [1], **FAST,
        },
        "gkd": {
            "use": "reinforce", "model": "pocket-base", "tasks": TASKS, "teacher": "pocket-teacher",
            "objective": {"use": "kd", "beta": 0.5, "imitate": True}, "traces": "generate", "on_policy": 0.5, **FAST,
        },
        "evaluate": {
            "models": {"opd": "opd", "early": "opd@1"}, "tasks": TASKS, "limit": 1, "max_new_tokens": 32,
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("taught") / "run"
    run_recipe(build_recipe(ROAD), run, Log.silent())
    return run


def metrics(run: Path, stage: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / stage / "metrics.jsonl").read_text().splitlines()]


def test_a_pack_teaches_what_its_teacher_would(taught: Path) -> None:
    for packed, live in zip(metrics(taught, "packed"), metrics(taught, "live"), strict=True):
        assert packed["divergence"] == pytest.approx(live["divergence"], rel=0.02, abs=2e-4)  # half precision
        assert packed["targets"] == live["targets"] and live["scored"] > 0 and "scored" not in packed
    assert not (taught / "packed" / "unpacked").exists() and not list((taught / "pack" / "parts").glob("*"))


def test_the_summary_of_a_pack_says_what_it_holds(taught: Path) -> None:
    summary = json.loads((taught / "pack" / "summary.json").read_text())
    header = read_header(taught / "pack" / "pack.parquet")
    assert summary["rows"] == header.rows == summary["traces"]["kept"] > 20
    assert header.terms["pocket-teacher"]["licence"] == "apache-2.0"
    assert header.teacher == "pocket-teacher" and len(header.teacher_digest) == 32
    assert 0 < summary["tail_mass"] < 0.01 and summary["bytes_per_token"] > 4 * 8 * 0.5
    card = (taught / "packed" / "model" / "README.md").read_text()
    assert "pocket-base" in card and "apache-2.0" in card
    trained = json.loads((taught / "packed" / "summary.json").read_text())
    assert trained["pack"]["checksum"] == header.checksum


def test_on_policy_stages_ask_about_their_own_tokens(taught: Path) -> None:
    for row in metrics(taught, "opd"):
        assert row["scored"] > row["sampled"] > 0 and row["members"] == row["targets"] and row["read"] > 0
        assert row["logprob_gap_max"] < 1e-3
    for row in metrics(taught, "gkd"):
        assert row["divergence"] > 0 and row["loss_ce"] > 0 and row["targets"] > row["sampled"]


def test_a_snapshot_is_a_model_of_its_own(taught: Path) -> None:
    early = taught / "opd" / "snapshots" / "1" / "model.safetensors"
    assert early.read_bytes() != (taught / "opd" / "model" / "model.safetensors").read_bytes()


def test_a_pack_that_was_stopped_ends_as_one_that_was_not(taught: Path, tmp_path: Path, monkeypatch) -> None:
    stages = {name: ROAD["stage"][name] for name in ("generate", "pack")}
    recipe = build_recipe({"name": "stopped", "stage": stages})
    calls = 0

    def stop_at_the_third(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Interrupted("stopped")

    monkeypatch.setattr(pack_stage, "raise_if_stopped", stop_at_the_third)
    with pytest.raises(Interrupted):
        run_recipe(recipe, tmp_path / "run", Log.silent())
    assert len(list((tmp_path / "run" / "pack" / "parts").glob("*.parquet"))) == 2
    run_recipe(recipe, tmp_path / "run", Log.silent())
    assert calls == 5  # three parts asked for in the first attempt, two of four left for the second
    first, second = (run / "pack" / "pack.parquet" for run in (tmp_path / "run", taught))
    assert read_header(first) == read_header(second)


# The format.


def row(n: int, seed: int = 0, k: int = 3, vocabulary: int = 100) -> PackRow:
    rng = np.random.default_rng(seed)
    tokens = tuple(int(i) for i in rng.integers(0, vocabulary, n))
    completion = Completion(text="<think>\nz\n</think>\n5", prompt_tokens=(1, 2), tokens=tokens)
    problem = Problem(id=f"p{seed}", task="t", prompt="q \u2028", answer="5", meta={"steps": 2})
    logprobs = np.log(rng.dirichlet(np.ones(k + 1), n)).astype(np.float32)
    top = TopK(rng.integers(-1, vocabulary, (n, k)).astype(np.int32), logprobs[:, :k], logprobs[:, k])
    return PackRow(Trace(problem=problem, completion=completion, verdict=Verdict.correct("5")), top)


def write(path: Path, rows: list[PackRow], vocabulary: int = 100) -> Path:
    header = PackHeader(teacher="x", top_k=3, vocabulary=vocabulary, tokenizer="a", template="b")
    with PackWriter(path, header) as file:
        file.write(rows)
    return path


@pytest.mark.parametrize("vocabulary", [100, 150_000])
def test_rows_come_back_as_they_were_written(tmp_path: Path, vocabulary: int) -> None:
    rows = [row(n, n, vocabulary=vocabulary) for n in (4, 1, 9)]
    found = list(read_pack(write(tmp_path / "a.parquet", rows, vocabulary)))
    for one, other in zip(rows, found, strict=True):
        assert one.trace == other.trace and (one.top.ids == other.top.ids).all()
        np.testing.assert_allclose(one.top.logprobs, other.top.logprobs, rtol=1e-3)
        np.testing.assert_allclose(one.top.tail, other.top.tail, rtol=1e-3)


def test_a_changed_value_and_a_cut_file_are_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [row(5, 1), row(6, 2)])
    table = pq.read_table(path)
    metadata = {b"ponder.pack": read_header(path).model_dump_json().encode()}
    swapped = table.take([1, 0]).replace_schema_metadata(metadata)
    pq.write_table(swapped, tmp_path / "b.parquet")
    with pytest.raises(DataError, match="checksum"):
        list(read_pack(tmp_path / "b.parquet"))
    data = bytearray(path.read_bytes())
    (tmp_path / "c.parquet").write_bytes(bytes(data[: len(data) // 2]))
    with pytest.raises(ResourceError, match="cannot be read"):
        read_header(tmp_path / "c.parquet")
    pq.write_table(table.replace_schema_metadata({}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="no teacher pack"):
        read_header(tmp_path / "d.parquet")


def test_what_fails_leaves_no_file(tmp_path: Path) -> None:
    header = PackHeader(teacher="x", top_k=3, vocabulary=100, tokenizer="a", template="b")
    with pytest.raises(RuntimeError), PackWriter(tmp_path / "a.parquet", header) as file:
        file.write([row(5)])
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_pack_answers_for_fewer_tokens_and_refuses_more(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [row(5, 1)])
    teacher = PackTeacher(path, tmp_path / "unpacked")
    (trace,) = teacher.rows()
    (found,) = teacher.top([trace], 1)
    (whole,) = teacher.top([trace], 3)
    assert found.ids.shape == (7, 1) and (found.ids[:2] == -1).all()
    np.testing.assert_allclose(
        np.exp(found.tail[2:]), np.exp(whole.tail[2:]) + np.exp(whole.logprobs[2:, 1:]).sum(1), rtol=1e-4
    )
    with pytest.raises(ConfigurationError, match="holds 3 tokens"):
        teacher.top([trace], 4)
    with pytest.raises(ConfigurationError, match="does not hold this trace"):
        teacher.top([row(4, 9).trace], 2)


# Wrong settings.


@pytest.mark.parametrize(
    ("stage", "settings", "says"),
    [
        ("distill", {"traces": "generate", "objective": {"use": "kd"}}, "nobody to ask"),
        ("distill", {"traces": "pack", "objective": {"use": "kd", "top_k": 9}}, "holds 8 tokens"),
        ("distill", {"traces": "pack", "answers_only": True}, "thinking cannot be dropped"),
        ("reinforce", {"tasks": TASKS, "objective": {"use": "opd"}}, "opd needs a teacher"),
        ("reinforce", {"tasks": TASKS, "teacher": "pocket-teacher"}, "asks no teacher"),
        (
            "reinforce",
            {"tasks": TASKS, "teacher": "pocket-teacher", "objective": {"use": "opd"}, "temperature": 0.5},
            "temperature 1",
        ),
        (
            "reinforce",
            {"tasks": TASKS, "teacher": "pocket-teacher", "objective": {"use": "opd"}, "on_policy": 0.5},
            "`traces` and the objective kd",
        ),
    ],
)
def test_settings_that_cannot_teach_are_refused(
    taught: Path, tmp_path: Path, stage: str, settings: dict[str, Any], says: str
) -> None:
    settings = {"model": "pocket-base", "steps": 1, **settings}
    if stage == "reinforce":
        settings["problems"] = 12
    for name in ("generate", "pack"):
        if settings.get("traces") == name:
            settings["traces"] = str(taught / name)
    recipe = build_recipe({"name": "wrong", "stage": {stage: settings}})
    with pytest.raises(ConfigurationError, match=says):
        run_recipe(recipe, tmp_path / "run", Log.silent())


def test_a_pack_of_other_tokens_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "pack.parquet", [row(5, 1)])
    recipe = build_recipe({"name": "w", "stage": {"distill": {"model": "pocket-base", "traces": str(path)}}})
    with pytest.raises(ConfigurationError, match="another tokenizer and another chat template"):
        run_recipe(recipe, tmp_path / "run", Log.silent())


OUTSIDE = """
from typing import ClassVar

from ponder.objectives.sft import SFT


class Asking(SFT):
    asks_teacher: ClassVar[bool] = True
    learns_stored: ClassVar[bool] = True

    def __call__(self, group, reference=None, teacher=None):
        said = teacher.logprobs(list(group.traces))
        assert [len(each) for each in said] == [
            len(trace.completion.prompt_tokens) + len(trace.completion.tokens) for trace in group.traces
        ]
        return super().__call__(group)


plugin = Asking
"""


def test_an_objective_of_ones_own_is_given_the_teacher_that_it_asks_for(
    taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "asking.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = {"model": "pocket-base", "objective": {"use": "mylab.asking"}}
    with pytest.raises(ConfigurationError, match=r"mylab\.asking has nobody to ask"):
        run_recipe(
            build_recipe({"name": "own", "stage": {"distill": {**own, "traces": str(taught / "generate")}}}),
            tmp_path / "distil",
            Log.silent(),
        )
    with pytest.raises(ConfigurationError, match=r"mylab\.asking needs a teacher"):
        run_recipe(
            build_recipe({"name": "own", "stage": {"reinforce": {**own, "tasks": TASKS}}}), tmp_path / "r", Log.silent()
        )
    mixed = {"teacher": "pocket-teacher", "traces": str(taught / "generate"), "on_policy": 0.5, **FAST, "steps": 1}
    summary = run_recipe(
        build_recipe({"name": "own", "stage": {"reinforce": {**own, "tasks": TASKS, **mixed}}}),
        tmp_path / "run",
        Log.silent(),
    )
    assert summary["reinforce"]["steps"] == 1
