"""The server does not grow: a short form of `benchmarks.soak`, which asks ten thousand times."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from serving import NAME, serving

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.soak import Soak, growth

REQUESTS = 300


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system does not show open files and threads")
def test_requests_of_all_kinds_leave_nothing_behind() -> None:
    with serving() as served:
        soak = Soak(served.port, NAME, os.getpid())
        result = soak.run(REQUESTS, clients=4)
        assert soak.statuses == {"200": REQUESTS * 8 // 10, "400": REQUESTS // 10, "left": REQUESTS // 10}
        grown = growth(result)
        assert grown["files"] <= 2 and grown["threads"] <= 4
        assert (result["looks"][-1]["resident_bytes"] - result["looks"][5]["resident_bytes"]) < 40 * 2**20
        assert served.service.worker.waiting == 0 and not served.service.visits._of_key
    assert growth({"requests": 2000, "looks": [
        {"requests": 1000, "resident_bytes": 100, "files": 5, "threads": 2},
        {"requests": 2000, "resident_bytes": 900, "files": 6, "threads": 2},
    ]}) == {"resident_bytes_per_1000": 800, "files": 1, "threads": 0}  # fmt: skip
