"""What `ponder doctor` finds."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest

from engine_models import need_kernels
from ponder import doctor
from ponder.doctor import Check, show_checks
from ponder.models.native import build


def weights(folder: Path, missing: int = 0) -> None:
    """A safetensors file of one tensor, cut short by so many bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [10], "data_offsets": [0, 10]}}).encode()
    folder.mkdir()
    data = struct.pack("<Q", len(header)) + header + bytes(10 - missing)
    (folder / "model.safetensors").write_bytes(data)


def test_shipped_models_are_checked(tmp_path: Path) -> None:
    assert doctor._model_problem(tmp_path / "absent") == "missing"
    weights(tmp_path / "whole")
    weights(tmp_path / "cut", missing=3)
    assert doctor._model_problem(tmp_path / "whole") == ""
    assert "3 bytes are missing" in doctor._model_problem(tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").write_bytes(b"no")
    assert "damaged" in doctor._model_problem(tmp_path / "cut")
    digest = hashlib.sha256((tmp_path / "whole" / "model.safetensors").read_bytes()).hexdigest()
    (tmp_path / "whole" / "SHA256SUMS").write_text(f"{digest}  model.safetensors\n")
    assert doctor._model_problem(tmp_path / "whole") == ""
    (tmp_path / "whole" / "SHA256SUMS").write_text(f"{'0' * 64}  model.safetensors\n")
    assert "checksum" in doctor._model_problem(tmp_path / "whole")


def test_every_finding_that_is_not_well_has_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)  # as if nothing optional, nor torch, were there
    monkeypatch.setattr(doctor, "package_versions", lambda: {"torch": None, "numpy": "2.0"})
    monkeypatch.setattr(doctor, "free_bytes", lambda path: 10)
    monkeypatch.setattr(doctor, "_memory_bytes", lambda: (10, 10))
    monkeypatch.setenv("OMP_NUM_THREADS", "9999")
    checks = {check.name: check for check in doctor.run_checks()}
    assert checks["torch"].state == "fail" and checks["python"].state == "ok"
    for name in ("disk", "memory", "threads", "datasets"):
        assert checks[name].state == "warn", name
    assert all(check.fix for check in checks.values() if check.state != "ok")


@pytest.mark.parametrize("as_json", [True, False])
def test_the_exit_code_tells_whether_anything_can_run(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    warning, failure = (
        Check("disk", "warn", "full", "free some"),
        Check("torch", "fail", "absent", "install it"),
    )
    monkeypatch.setattr(doctor, "run_checks", lambda: [warning])
    assert show_checks(as_json=as_json) == 0
    monkeypatch.setattr(doctor, "run_checks", lambda: [warning, failure])
    capsys.readouterr()
    assert show_checks(as_json=as_json) == 3
    output = capsys.readouterr().out
    assert "install it" in output
    if as_json:
        assert [row["state"] for row in json.loads(output)] == ["warn", "fail"]


def test_kernels_are_named_or_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build.SWITCH, "0")
    check = doctor._kernels()
    assert check.state == "warn" and "PONDER_NATIVE=0" in check.found and "gcc" in check.fix
    monkeypatch.delenv(build.SWITCH)
    need_kernels()
    assert doctor._kernels().state == "ok"
