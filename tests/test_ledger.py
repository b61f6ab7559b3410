"""The account that a stage keeps of itself: attempts add up, and nothing that goes wrong in it stops a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fake_lab import install
from ponder import runner
from ponder.core.errors import Interrupted
from ponder.core.types import Completion, Usage
from ponder.measure.costs.energy import Meter
from ponder.measure.costs.sensors import Counter, Sensor
from ponder.recipe import build_recipe
from ponder.runner import run_recipe
from ponder.runs import ledger as ledgers
from ponder.runs.ledger import (
    LEDGER,
    Energy,
    Ledger,
    Spent,
    count_completions,
    count_tokens,
    energy_total,
    look_at_counters,
    read_attempts,
    total,
)
from ponder.runs.log import Log


class Clock:
    """Spends what it is told to; ten watts, two of them idle."""

    def __init__(self) -> None:
        self.now, self.peak, self.lost = 0.0, 100, False

    def __call__(self) -> Spent:
        energy = Energy(
            source="rapl",
            covers="package",
            origin="measured",
            joules=None if self.lost else 10 * self.now,
            idle_watts=2.0,
        )
        return Spent(seconds=self.now, cpu_seconds=self.now / 2, peak_memory_bytes=self.peak, energy=(energy,))


def spend(folder: Path, seconds: float, clock: Clock | None = None, error: BaseException | None = None) -> None:
    """One attempt."""
    clock = clock or Clock()
    with Ledger(folder, clock, poll_seconds=0):
        count_tokens(prompt=5, sampled=int(seconds), trained=2)
        clock.now = seconds
        if error is not None:
            raise error


def test_attempts_add_up(tmp_path: Path) -> None:
    spend(tmp_path, 10)
    with pytest.raises(Interrupted):
        spend(tmp_path, 20, error=Interrupted("stop"))
    with pytest.raises(KeyError):
        spend(tmp_path, 5, error=KeyError())
    assert [row.state for row in read_attempts(tmp_path)] == ["done", "stopped", "failed"]
    found = total(read_attempts(tmp_path))
    assert found is not None
    assert (found["attempts"], found["seconds"], found["cpu_seconds"]) == (3, 35, 17.5)
    assert found["tokens"] == {"prompt": 15, "sampled": 35, "trained": 6, "scored": 0}
    assert (found["joules"], found["net_joules"], found["energy_origin"]) == (350, 280, "measured")
    assert total(read_attempts(tmp_path / "nowhere")) is None


def test_a_killed_attempt_counts_up_to_its_last_row(tmp_path: Path) -> None:
    clock = Clock()
    killed = Ledger(tmp_path, clock, poll_seconds=0)
    killed.__enter__()
    for clock.now in (1.0, 2.0, 7.0, 8.0):  # rows at 1 and 7: five seconds after the one before
        look_at_counters()
    ledgers._open.remove(killed)  # the process is gone
    with (tmp_path / LEDGER).open("ab") as file:
        file.write(b'{"attempt": 1, "at": "x", "sta')
    spend(tmp_path, 3)
    assert [row.spent.seconds for row in read_attempts(tmp_path)] == [7, 3]


def test_a_long_attempt_writes_few_rows_and_loses_little(tmp_path: Path) -> None:
    clock = Clock()
    with Ledger(tmp_path, clock, poll_seconds=0):
        for second in range(86_400):
            clock.now = float(second)
            look_at_counters()
    times = [json.loads(line)["spent"]["seconds"] for line in (tmp_path / LEDGER).read_text().splitlines()]
    assert len(times) < 700
    assert all(later - sooner <= max(6.0, 1.0 + 0.02 * sooner) for sooner, later in pairwise(times))


def test_the_peak_survives_a_reset_of_the_counter(tmp_path: Path) -> None:
    clock = Clock()
    with Ledger(tmp_path, clock, poll_seconds=0):
        clock.peak = 900
        look_at_counters()
        clock.peak = 50
    assert read_attempts(tmp_path)[0].spent.peak_memory_bytes == 900


def test_one_unknown_attempt_makes_the_sum_unknown(tmp_path: Path) -> None:
    spend(tmp_path, 10)
    broken = Clock()
    broken.lost = True
    spend(tmp_path, 10, broken)
    found = total(read_attempts(tmp_path))
    assert found is not None and found["joules"] is None and found["net_joules"] is None and found["seconds"] == 20


def test_a_stretch_without_any_source_is_unknown() -> None:
    known = (Energy(source="rapl", covers="x", origin="measured", joules=5.0),)
    assert energy_total([(known, 1.0), ((), 1.0)])["joules"] is None
    assert energy_total([])["joules"] is None and energy_total([])["energy_origin"] is None
    estimated = (Energy(source="estimate", covers="x", origin="estimated", joules=5.0, idle_watts=0.0),)
    mixed = energy_total([(known, 1.0), (estimated, 1.0)])
    assert (mixed["joules"], mixed["net_joules"], mixed["energy_origin"]) == (10, None, "mixed")


def test_tokens_outside_a_stage_are_nobodys(tmp_path: Path) -> None:
    count_tokens(sampled=5)
    look_at_counters()
    groups = [[Completion(text="", usage=Usage(prompt_tokens=3, completion_tokens=4))] * 2]
    with Ledger(tmp_path, Clock(), poll_seconds=0):
        assert count_completions(groups).sampled == 8
    assert read_attempts(tmp_path)[0].tokens.model_dump() == {"prompt": 6, "sampled": 8, "trained": 0, "scored": 0}


@pytest.mark.parametrize("breaks", ["sensor", "disk", "folder"])
def test_nothing_that_breaks_in_here_stops_the_work(tmp_path: Path, breaks: str) -> None:
    said: list[str] = []
    folder = tmp_path / "stage"
    folder.mkdir()
    if breaks == "folder":
        (folder / LEDGER).mkdir()

    def spent() -> Spent:
        if breaks == "sensor":
            raise OSError(5, "Input/output error")
        return Spent()

    with Ledger(folder, spent, said.append, poll_seconds=0):
        if breaks == "disk":
            (folder / LEDGER).unlink()
            (folder / LEDGER).mkdir()
        look_at_counters()
    assert len(said) == 1 and "no longer recorded" in said[0]


def test_a_damaged_ledger_is_read_where_it_makes_sense(tmp_path: Path) -> None:
    spend(tmp_path, 10)
    good = (tmp_path / LEDGER).read_bytes()
    hostile = b'nonsense\n[1]\n{"attempt": -1}\n{"attempt": 1e400}\n\xff\xfe\n' + b"[" * 100_000 + b"\n"
    (tmp_path / LEDGER).write_bytes(hostile + good + b'{"attempt": 9, "spent": {"seconds": NaN}}\n')
    assert [row.attempt for row in read_attempts(tmp_path)] == [1]


def test_the_thread_looks_by_itself(tmp_path: Path) -> None:
    looks: list[float] = []

    def spent() -> Spent:
        looks.append(time.monotonic())
        return Spent(seconds=len(looks))

    with Ledger(tmp_path, spent, poll_seconds=0.001):
        deadline = time.monotonic() + 5
        while len(looks) < 5 and time.monotonic() < deadline:
            os.sched_yield()
    assert len(looks) >= 5 and read_attempts(tmp_path)[0].state == "done"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    install(tmp_path, monkeypatch)
    clock = Counter(lambda: 0.0)
    monkeypatch.setattr(
        runner, "machine_meter", lambda: Meter([Sensor("fake", "all", "measured", [clock], idle_seconds=0)])
    )
    yield tmp_path / "run"


def recipe(**fields: Any) -> Any:
    return build_recipe({"name": "x", "stage": {"one": {"use": "lab.count", **fields}}})


def test_every_stage_of_a_run_has_its_ledger(lab: Path) -> None:
    run_recipe(recipe(), lab, Log.silent())
    (row,) = read_attempts(lab / "one")
    assert row.state == "done" and row.spent.energy[0].source == "fake"
    before = (lab / "one" / LEDGER).read_bytes()
    run_recipe(recipe(), lab, Log.silent())
    assert (lab / "one" / LEDGER).read_bytes() == before  # a stage that is done costs nothing more


def test_a_failed_and_repeated_stage_counts_twice(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError):
        run_recipe(recipe(fail="key"), lab, Log.silent())
    with pytest.raises(KeyError):
        run_recipe(recipe(fail="key"), lab, Log.silent())
    assert [row.state for row in read_attempts(lab / "one")] == ["failed", "failed"]


def test_a_price_sheet_with_a_mistake_stops_a_run_before_its_work(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.csv").write_text("model,price\nx,1\n")
    monkeypatch.setenv("PONDER_PRICES", "mine.csv")
    with pytest.raises(ValueError, match="no column"):
        run_recipe(recipe(), lab, Log.silent())
    assert not lab.exists()


def test_a_run_that_was_killed_keeps_what_it_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    (tmp_path / "x.yaml").write_text("name: x\nstage:\n  one:\n    use: lab.count\n    rows: 40\n    pause: 0.05\n")
    command = [sys.executable, "-m", "ponder", "run", "x.yaml", "--out", "run"]
    package = str(Path(runner.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": f"{package}:{tmp_path}"}
    running = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)
    rows, account = tmp_path / "run" / "one" / "rows.jsonl", tmp_path / "run" / "one" / LEDGER
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not rows.exists() or rows.stat().st_size < 100):
        os.sched_yield()
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert account.exists() and not (tmp_path / "run" / "one" / "summary.json").exists()
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
    found = read_attempts(tmp_path / "run" / "one")
    assert [row.state for row in found] == ["running", "done"]
    together = total(found)
    assert together is not None and together["attempts"] == 2
