"""Reinforcement: what a step reports, and when it stops because nothing can be learnt."""

from __future__ import annotations

from pathlib import Path

import pytest

from ponder.core.errors import PonderError
from ponder.learn.fit import METRICS
from ponder.runs.store import StageFolder
from ponder.stages.reinforce import check_not_still

STILL, MOVING = {"still_groups": 1.0}, {"still_groups": 0.5}


def folder_after(path: Path, *rows: dict[str, float]) -> StageFolder:
    """A stage that has taken these steps, opened anew as after a restart."""
    StageFolder(path).journal(METRICS).append_all({"step": i, **row} for i, row in enumerate(rows))
    return StageFolder(path)


def test_still_steps_are_counted_across_a_restart(tmp_path: Path) -> None:
    folder = folder_after(tmp_path, MOVING, STILL, STILL)
    check_not_still(STILL, folder, patience=4)
    with pytest.raises(PonderError, match="for 3 steps every group had equal rewards"):
        check_not_still(STILL, folder, patience=3)


def test_one_group_that_moves_starts_the_count_again(tmp_path: Path) -> None:
    check_not_still(MOVING, folder_after(tmp_path / "now", STILL, STILL), patience=2)
    check_not_still(STILL, folder_after(tmp_path / "before", STILL, STILL, MOVING), patience=2)


def test_the_first_step_may_be_still_unless_no_patience_is_left(tmp_path: Path) -> None:
    check_not_still(STILL, StageFolder(tmp_path), patience=2)
    with pytest.raises(PonderError):
        check_not_still(STILL, StageFolder(tmp_path), patience=1)
