"""What a run says, to whom, and that nobody listening stops it."""

from __future__ import annotations

import io
import json
import signal
import threading
from pathlib import Path

import pytest

from ponder.core.errors import Interrupted
from ponder.runs import log as module
from ponder.runs.interrupt import listening, raise_if_stopped, stop_requested
from ponder.runs.journal import Journal
from ponder.runs.log import Log, duration


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_plain_lines_are_few_and_the_events_are_kept(tmp_path: Path) -> None:
    stream, journal = io.StringIO(), Journal(tmp_path / "events.jsonl")
    log = Log("plain", stream=stream, journal=journal)
    with log.progress("train", total=1000, unit="steps") as progress:
        for step in range(1, 1001):
            progress.update(step, loss=1 / step, model="a")
    log.note("note [bold]as it is[/bold]")
    log.warn("look")
    assert len(lines(stream)) == 3
    assert lines(stream)[0].startswith("train  1,000/1,000 steps  loss 0.001, model a  (")
    assert lines(stream)[1:] == ["note [bold]as it is[/bold]", "warning: look"]
    assert [row["event"] for row in journal.rows()] == ["finished", "note", "warning"]
    assert next(journal.rows())["done"] == 1000


def test_plain_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLAIN_SECONDS", 0.0)
    stream = io.StringIO()
    with Log("plain", stream=stream).progress("sample", total=None) as progress:
        progress.update(1)
        progress.update(2)
    assert len(lines(stream)) == 3


def test_json_mode_writes_only_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JSON_SECONDS", 0.0)
    stream = io.StringIO()
    log = Log("json", stream=stream)
    log.event("done", stage="x", loss=float("nan"))
    with log.progress("work", total=2) as progress:
        progress.update(1, loss=float("nan"))
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines(stream)]
    assert [row["event"] for row in rows] == ["done", "progress", "finished"]


def test_a_live_line_survives_odd_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in ("40", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
        log = Log("live", stream=stream)
        with (
            log.progress("思考 [red]", total=3, unit="rows") as progress,
            log.progress("inner", total=1) as inner,
        ):
            inner.update(1)
            progress.update(3, loss=0.5)
            log.note("思")


@pytest.mark.parametrize("mode", ["plain", "json"])
def test_a_reader_that_left_does_not_stop_the_work(mode: module.Mode, tmp_path: Path) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    journal = Journal(tmp_path / "events.jsonl")
    log = Log(mode, stream=Broken(), journal=journal)
    log.note("one")
    log.note("two")
    assert len(journal) == 2


def test_a_closed_standard_error_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with Log("plain").progress("x", total=1) as progress:
        progress.update(1)


def test_a_silent_log_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log.silent()
    log.warn("x")
    with log.progress("x", total=1) as progress:
        progress.update(1)
    assert capsys.readouterr() == ("", "")


def test_an_error_inside_a_progress_is_not_called_finished(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    with pytest.raises(KeyError), Log("silent", journal=journal).progress("x", total=1):
        raise KeyError
    assert len(journal) == 0


def test_the_time_left_counts_from_where_a_resumed_run_began(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 10.0, 10.0])
    progress = module.Progress(Log.silent(), "x", 1000, "")
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    progress.update(900)
    progress.update(950)
    assert progress.rate == pytest.approx(5.0)


def test_durations() -> None:
    assert [duration(s) for s in (0.04, 59.94, 185, 7830)] == ["0.0 s", "59.9 s", "3 min 05 s", "2 h 10 min"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_and_the_second_insists(number: signal.Signals) -> None:
    def here(*_: object) -> None:  # and not what this process began with: under nohup it ignores SIGHUP
        raise AssertionError(number)

    before = signal.signal(number, here)
    try:
        with listening():
            assert not stop_requested()
            signal.raise_signal(number)  # to this thread: one for the process may arrive a little later
            assert stop_requested()
            with pytest.raises(Interrupted) as caught:
                raise_if_stopped()
            assert caught.value.exit_code == 4
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert not stop_requested() and signal.getsignal(number) is here
    finally:
        signal.signal(number, before)


def test_a_run_under_nohup_ignores_the_hang_up() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening():
            signal.raise_signal(signal.SIGHUP)
            assert not stop_requested()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_threads_and_nesting_leave_the_handlers_alone() -> None:
    with listening():
        handler = signal.getsignal(signal.SIGINT)
        thread = threading.Thread(target=lambda: listening().__enter__())
        thread.start()
        thread.join()
        with listening():
            pass
        assert signal.getsignal(signal.SIGINT) == handler
