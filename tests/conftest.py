"""Every test runs under a guard: nothing may leave this machine, from the test's process or from Ponder's children."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ponder.core import offline

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores: threads of one would wait for those of another
    os.environ.setdefault("OMP_NUM_THREADS", "1")
offline.refuse_connections()
os.environ[offline.VARIABLE] = "1"  # for children: Ponder reads it when it is imported
for switch in offline.SWITCHES:  # a worker that inherited the guard tests as a process does that did not
    os.environ.pop(switch, None)
os.environ["HF_DATASETS_OFFLINE"] = "1"  # it counts downloads even of files that lie here


@pytest.fixture(autouse=True)
def nothing_leaves_this_machine() -> Iterator[None]:
    """Fails a test that tried, even where the code under test swallowed the refusal."""
    before = len(offline.attempts)
    yield
    tried = offline.attempts[before:]
    assert not tried, f"this test tried to leave the machine: {tried}"
