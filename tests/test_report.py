from __future__ import annotations

import doctest
import hashlib
import json
import math
import re
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

from ponder.core.errors import ResourceError
from ponder.core.seeds import python_rng
from ponder.core.types import Completion, Finish, Outcome, Problem, StepVerdict, Trace, Usage, Verdict
from ponder.measure import resources, scores
from ponder.measure.stored import trace_row
from ponder.report import charts, traces
from ponder.report import table as tables
from ponder.report.charts import Mark, bars, curve, forest, nice_ticks
from ponder.report.curves import training_curves
from ponder.report.evaluations import find_evaluations
from ponder.report.numbers import numbers
from ponder.report.page import render, write_report
from ponder.report.table import table
from ponder.report.traces import PROBLEMS_PER_SPLIT, choose_problems, embedded, segments
from ponder.runs.store import StageFolder

SKILLS = ("arithmetic", "chains", "causes", "implications", "plans", "contradictions")
MODELS = {"pocket-base": 0.12, "distilled": 0.62, "reinforced": 0.7, "pocket-teacher": 0.96}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'<!-- {{ 7*7 }}\x00"


class Steps:
    """A step verifier that calls a line with an exclamation mark wrong."""

    def __call__(self, problem: Problem, response: str) -> Verdict:
        return Verdict.unknown("not asked")

    def steps(self, problem: Problem, response: str) -> list[StepVerdict]:
        lines = [line for line in response.splitlines() if line.startswith("Step")]
        return [
            StepVerdict(index=i, text=line, outcome=Outcome.WRONG if "!" in line else Outcome.CORRECT, reason="sum")
            for i, line in enumerate(lines)
        ]


def make_trace(model: str, problem: Problem, right: float, sample: int, prefix: str = "") -> Trace:
    rng = python_rng(model, problem.id, sample)
    steps = int(str(problem.meta["steps"]))
    good = rng.random() < right ** (0.4 + steps / 5)
    cut = not good and rng.random() < 0.15
    thought = [f"Step {i + 1}: {3 * i} + 4 = {3 * i + (4 if good or i != steps // 2 else 5)}" for i in range(steps)]
    thought = [line + ("!" if not good and i == steps // 2 else "") for i, line in enumerate(thought)]
    silent = model == "pocket-base" and rng.random() < 0.8
    text = "" if silent else "<think>\n" + "\n".join(thought) + ("" if cut else "\n</think>\n\n")
    text = prefix + text + ("" if cut else f"The answer is {7 if good else 8}.")
    verdict = Verdict.correct("7") if good else Verdict.wrong(None if cut else "8", "truncated" if cut else "different")
    usage = Usage(prompt_tokens=40, completion_tokens=len(text) // 3, thinking_tokens=0 if silent else len(text) // 4)
    completion = Completion(text=text, finish=Finish.LENGTH if cut else Finish.STOP, usage=usage, seconds=rng.random())
    return Trace(problem=problem, completion=completion, verdict=verdict, sampler=model)


def make_problems(split: str, count: int, skills: tuple[str, ...] = SKILLS) -> list[Problem]:
    low, high = (7, 16) if split == "longer" else (1, 6)
    return [
        Problem(
            id=f"{skill}-{split}-{index}",
            task=skill,
            prompt=f"Ada has {index} marbles and wins more in each of several rounds. How many has she?",
            answer="7",
            meta={"skill": skill, "steps": low + index % (high - low + 1), "split": split},
        )
        for skill in skills
        for index in range(count)
    ]


def make_run(
    path: Path,
    models: dict[str, float] | None = None,
    splits: tuple[str, ...] = ("test", "longer"),
    count: int = 30,
    samples: int = 1,
    skills: tuple[str, ...] = SKILLS,
    prefix: str = "",
) -> Path:
    models = MODELS if models is None else models
    folder = StageFolder(path / "evaluate")
    problems = [problem for split in splits for problem in make_problems(split, count, skills)]
    plan = {
        "id": "0123456789abcdef",
        "splits": list(splits),
        "samples": samples,
        "seed": 0,
        "sampling": {"temperature": 0.0, "max_new_tokens": 512},
        "problems": len(problems),
        "inside_steps": 6,
        "models": [{"label": m, "name": m, "traces": f"traces-{i}"} for i, m in enumerate(models, 1)],
    }
    folder.write_json("evaluation", plan)
    for index, (model, right) in enumerate(models.items(), 1):
        traces = [(make_trace(model, p, right, s, prefix), s) for p in problems for s in range(samples)]
        folder.journal(f"traces-{index}").append_all([trace_row(trace, s, Steps()) for trace, s in traces])
        chunk = {
            "model": model,
            "start": 0,
            "answers": len(traces),
            "tokens": 60 * len(traces),
            "seconds": 7.5 * index,
        }
        size = {
            "peak_memory_bytes": 900_000_000,
            "parameters": 10**6 * (4 + 20 * (index == 4)),
            "disk_bytes": 8 * 10**6,
        }
        folder.journal("timing").append({**chunk, **size})
    return path


def add_training(path: Path, stage: str = "reinforce", rows: int = 400) -> None:
    rng = python_rng(stage)
    journal = StageFolder(path / stage).journal("metrics")
    for step in range(rows):
        reward = 0.7 - 0.6 * math.exp(-step / 90) + rng.gauss(0, 0.03)
        row = {"step": step, "loss": rng.gauss(0, 0.02), "reward": reward, "correct": reward, "tokens": 8000}
        row |= {
            "completion_tokens": 40 + step / 8 + rng.gauss(0, 3),
            "grad_norm": math.exp(rng.gauss(-1, 0.4)),
        }
        row |= {"entropy": 0.4 * math.exp(-step / 200), "reasons": 1 - math.exp(-step / 50), "lr": 1e-4}
        journal.append(row)


class Page(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.contents: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in ("meta", "br", "input", "img", "link"):
            self.open.append(tag)
            self.contents.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open:
            self.contents[self.open[-1]][-1] += data


def checked(text: str) -> Page:
    """The page is well formed, self-contained, and holds no active content but its own script."""
    page = Page(text)
    assert page.open == []
    assert page.tags.count("script") == 2 and not {"img", "iframe", "link", "object"} & set(page.tags)
    assert not [a for a in page.attributes if a[1].startswith("on") or a[1] in ("src", "style")]
    assert all(value.startswith("#") for _, name, value in page.attributes if name == "href" and value)
    policy = next(value for _, name, value in page.attributes if name == "content" and "default-src" in (value or ""))
    for tag, content in (("script", page.contents["script"][1]), ("style", page.contents["style"][0])):
        digest = b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in str(policy)
    json.loads(page.contents["script"][0])
    return page


def test_page_shows_everything_of_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "pocket", count=12)
    add_training(run, rows=50)
    (run / "manifest.json").write_text('{"name": "pocket"}')
    path = write_report(run)
    assert path == run / "report.html" and path.stat().st_size < 2_000_000
    page = checked(path.read_text())
    titles = " ".join(page.contents["b"])
    for expected in (
        "Accuracy on test",
        "By skill",
        "number of steps",
        "against size",
        "against time",
        "Differences",
    ):
        assert expected in titles
    assert "mean reward" in titles and "more steps than trained on" in page.contents["text"]
    assert "http:" not in path.read_text() and "https:" not in path.read_text()
    elsewhere = write_report(run, tmp_path / "out.html")
    assert elsewhere.read_text() == path.read_text()


@pytest.mark.parametrize("made", ["nothing", "training", "no traces", "one model", "no steps"])
def test_page_of_a_run_that_has_little(tmp_path: Path, made: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    if made == "training":
        add_training(run, rows=1)
        (run / "broken").mkdir()
        (run / "broken" / "metrics.jsonl").write_text("")
    elif made == "no traces":
        make_run(run, count=0)
    elif made == "one model":
        make_run(run, {"only": 0.5}, ("test",), 1, skills=("plans",))
    elif made == "no steps":
        make_run(run, count=2)
        for journal in (run / "evaluate").glob("traces-*.jsonl"):
            rows = [json.loads(line) for line in journal.read_text().splitlines()]
            for row in rows:
                del row["problem"]["meta"]["steps"], row["problem"]["meta"]["skill"]
            journal.write_text("".join(json.dumps(row) + "\n" for row in rows))
    checked(render(run))
    assert isinstance(table(numbers(run)), str)


def test_hostile_names_and_texts_stay_text(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {HOSTILE: 0.5, "x" * 3000: 0.4}, ("test",), 3, prefix=HOSTILE)
    StageFolder(run / "evaluate").journal("metrics").append({"step": 0, HOSTILE: 1.0, "loss": 2.0})
    (run / "manifest.json").write_text(json.dumps({"note": HOSTILE}))
    text = render(run)
    text.encode("utf-8", "replace")
    page = checked(text)
    assert "\x00" not in text and "&lt;/script&gt;" in text
    data = json.loads(page.contents["script"][0])
    assert any("onerror" in part for p in data["problems"] for a in p["answers"].values() for _, part in a["text"])
    assert "{{ 7*7 }}" in text and "</script><script>" not in text.replace("</script>\n<script>", "")


def test_metrics_that_are_not_numbers_leave_gaps(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir(parents=True)
    values = ("NaN", "2.0", "Infinity", "null", "1e308", "-1e308", '"text"', "true")
    rows = [f'{{"step": {step}, "loss": {value}, "bad": NaN}}' for step, value in enumerate(values)]
    (folder / "metrics.jsonl").write_text("\n".join(rows) + "\n" + '{"step": 6, "lo')
    (curve_of_loss,) = training_curves(tmp_path)["train"]
    assert [point[0] for point in curve_of_loss.points] == [1] and curve_of_loss.left_out == 5
    page = checked(render(tmp_path))
    assert "5 values that are no finite number left out" in " ".join(page.contents["span"])
    assert "nan" not in render(tmp_path).split("<body>")[1].split("<script")[0]


def test_long_training_is_thinned_but_keeps_its_extremes(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir(parents=True)
    values = [float(i % 7) for i in range(20_000)]
    values[12_345] = 99.0
    (folder / "metrics.jsonl").write_text("".join(f'{{"step": {i}, "loss": {v}}}\n' for i, v in enumerate(values)))
    points = training_curves(tmp_path)["train"][0].points
    assert len(points) <= 160 and max(point[3] for point in points) == 99.0
    assert sum(point[1] for point in points) / len(points) == pytest.approx(sum(values) / len(values), abs=0.1)


def test_browser_is_bounded_and_shows_what_is_rare(tmp_path: Path) -> None:
    many = {f"model {i}": 0.9 for i in range(20)}
    run = make_run(tmp_path / "run", many, ("test",), 70, skills=("plans", "chains"))
    data = json.loads(Page(render(run)).contents["script"][0])
    assert len(data["models"]) == 16 and len(data["problems"]) == PROBLEMS_PER_SPLIT
    assert {problem["skill"] for problem in data["problems"]} == {"plans", "chains"}
    folder = StageFolder(tmp_path / "rare" / "evaluate")
    make_run(tmp_path / "rare", {"m": 1.0}, ("test",), 400, skills=("plans",))
    rows = [json.loads(line) for line in (folder.path / "traces-1.jsonl").read_text().splitlines()]
    rows[123]["verdict"] = {"outcome": "unknown", "reason": "gold"}
    (folder.path / "traces-1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = json.loads(Page(render(tmp_path / "rare")).contents["script"][0])
    assert "unknown" in {problem["answers"]["0"]["outcome"] for problem in data["problems"]}


def test_choice_does_not_depend_on_the_order_of_traces(tmp_path: Path) -> None:
    (evaluation,) = find_evaluations(make_run(tmp_path, count=20))
    answers = evaluation.answers()
    assert sorted(choose_problems(answers)) == sorted(choose_problems(reversed(answers)))


def test_segments_mark_the_first_wrong_step() -> None:
    text = "<think>\nStep 1: 1\nStep 2: 2!\n</think>\n\nso 3"
    start = text.index("Step 2")
    kinds = segments(text, (start, start + 10), 1000)
    assert [k for k, _ in kinds] == ["t", "tw", "t", "a"] and kinds[1][1] == "Step 2: 2!"
    assert segments("a</think>b", None, 1000) == [("t", "a"), ("a", "b")]
    assert segments("<think>abc", (0, 0), 9)[-1] == ("c", "… 1 characters more")
    assert "".join(part for _, part in segments("no tags at all", (3, 7), 100)) == "no tags at all"


def test_first_wrong_step_is_found_in_the_text() -> None:
    problem = make_problems("test", 1)[0]
    text = "<think>\nStep 1: a\nStep 1: a!\nStep 3: b!\n</think>\n7"
    trace = Trace(problem=problem, completion=Completion(text=text), verdict=Verdict.correct("7"))
    row = trace_row(trace, 0, Steps())
    assert row["steps_found"] == 3 and row["first_wrong"]["step"] == 2
    assert text[row["first_wrong"]["start"] : row["first_wrong"]["end"]] == "Step 1: a!"
    assert trace_row(trace, 0, lambda problem, response: Verdict.correct())["steps_found"] is None


def test_numbers_are_counted_from_traces_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", count=10)
    before = numbers(run)
    rows = [r for r in before["models"] if r["task"] is None and r["steps"] is None and r["split"] == "test"]
    assert [row["model"] for row in rows] == list(MODELS) and all(row["n"] == 60 for row in rows)
    for row in rows:
        index = list(MODELS).index(row["model"]) + 1
        traces = [json.loads(line) for line in (run / "evaluate" / f"traces-{index}.jsonl").read_text().splitlines()]
        right = sum(t["verdict"]["outcome"] == "correct" for t in traces if t["problem"]["meta"]["split"] == "test")
        assert row["accuracy"] == pytest.approx(right / 60) and row["low"] <= row["accuracy"] <= row["high"]
    assert {(p["a"], p["b"]) for p in before["pairs"]} >= {
        ("pocket-base", "distilled"),
        ("distilled", "reinforced"),
    }
    assert {row["skill"] for row in before["models"]} == {None, *SKILLS}
    for name in ("traces-1", "traces-2"):  # sealed traces count the same
        StageFolder(run / "evaluate").journal(name).seal()
        (run / "evaluate" / f"{name}.jsonl").unlink()
    assert numbers(run) == before
    json.dumps(before, allow_nan=False)


def test_an_unfinished_evaluation_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", count=4)
    (run / "evaluate" / "traces-4.jsonl").unlink()
    assert numbers(run)["evaluations"][0]["complete"] is False
    assert "not finished" in table(numbers(run)) and "Not finished" in render(run)


def test_damage_and_absence_are_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no such run"):
        numbers(tmp_path / "missing")
    run = make_run(tmp_path / "run", count=1)
    (run / "evaluate" / "evaluation.json").write_text("{")
    with pytest.raises(ResourceError, match="cannot be read"):
        render(run)


def test_table_is_aligned_and_cannot_move_the_cursor(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a\x1b[2Jb": 0.5, "c": 0.6}, ("test",), 5)
    text = table(numbers(run))
    assert "\x1b" not in text
    block = text.splitlines()[1:4]
    assert len({line.index("  ") > 0 for line in block}) == 1 and len({len(line) for line in block}) == 1
    assert re.search(r"no difference shown|p [<=]", text)
    assert table({"evaluations": [], "models": [], "pairs": [], "costs": []}) == "no evaluation in this run yet"


def test_charts_survive_their_edges() -> None:
    edge = [Mark("zero", 0.0, 0.0, 0.0), Mark("one", 1.0, 1.0, 1.0)]
    for picture in (
        bars("b", edge),
        bars("b", []),
        forest("f", edge),
        forest("f", edge[:1]),
        curve("c", [(0, 5, 5, 5)]),
    ):
        Page(f"<div>{picture}</div>")
        assert "nan" not in picture and "inf" not in picture
    assert nice_ticks(0, 0, 3) == [] and nice_ticks(0, math.inf, 3) == []
    assert embedded({"a": "</script><!--&"}) == '{"a":"\\u003c/script\\u003e\\u003c!--\\u0026"}'


def test_a_hundred_thousand_traces_give_a_bounded_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"m": 0.5}, ("test",), 500, skills=("plans",))
    journal = run / "evaluate" / "traces-1.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    with journal.open("w") as file:
        for repeat in range(40):
            file.writelines(line.replace("-test-", f"-test-{repeat}-") for line in lines)
    text = render(run)
    assert len(text) < 1_000_000 and "20,000" in text


@pytest.mark.parametrize("module", [charts, tables, traces, scores, resources])
def test_examples_in_docstrings_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0
