"""Is this machine, and this installation, fit for the work? Every finding comes with a way to mend it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import struct
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import ponder
from ponder.measure.costs.energy import machine_meter
from ponder.runs.files import free_bytes
from ponder.runs.manifest import package_versions

POCKET_MODELS = ("pocket-base", "pocket-teacher")
OPTIONAL = {"chess": "ponder[chess]", "datasets": "ponder[hub]"}
NEEDED_MEMORY_BYTES = 2_000_000_000
NEEDED_DISK_BYTES = 2_000_000_000
_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


def show_checks(*, as_json: bool) -> int:
    """Print all findings; the exit code is 3 when something has to be mended before anything can run."""
    checks = run_checks()
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{_MARKS[check.state]}  {check.name:<{width}}  {check.found}")
            if check.fix and check.state != "ok":
                print(f"{'':<{width + 6}}  fix: {check.fix}")
    return 3 if any(check.state == "fail" for check in checks) else 0


def run_checks() -> list[Check]:
    """Every finding about this machine and this installation."""
    return [
        check
        for group in (_python, _packages, _processor, _memory, _energy, _disk, _sandbox, _pocket, _optional)
        for check in group()
    ]


def _python() -> Iterator[Check]:
    version = platform.python_version()
    good = sys.version_info >= (3, 11)
    yield Check(
        "python",
        "ok" if good else "fail",
        f"{version}, {platform.platform()}",
        "install Python 3.11 or newer",
    )


def _packages() -> Iterator[Check]:
    for name, version in package_versions().items():
        if version is None:
            yield Check(name, "fail", "not installed", f"pip install {name}")
        elif name == "torch" and not version.startswith("2.13"):
            yield Check(name, "warn", version, "Ponder is tested with 2.13: pip install torch==2.13.0")
        else:
            yield Check(name, "ok", version)


def _processor() -> Iterator[Check]:
    cores = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    flags = _processor_flags()
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16") if name in flags]
    fast = bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))
    computing = "bf16 compute" if fast else "fp32 compute (no bf16 instructions)"
    yield Check(
        "processor",
        "ok",
        f"{usable} of {cores} cores usable; {', '.join(known) or 'no extensions'}; {computing}",
    )
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) != usable:
        state = "warn" if int(threads) > usable else "ok"
        yield Check("threads", state, f"OMP_NUM_THREADS={threads} on {usable} cores", "unset OMP_NUM_THREADS")
    if find_spec("torch") is not None:
        yield from _torch_devices(usable)


def _torch_devices(cores: int) -> Iterator[Check]:
    """What torch itself sees; importing it is also the test that it loads."""
    try:
        torch = import_module("torch")
    except (ImportError, OSError) as error:
        yield Check(
            "torch loads",
            "fail",
            str(error).splitlines()[0],
            "reinstall: pip install --force-reinstall torch==2.13.0",
        )
        return
    threads = torch.get_num_threads()
    fix = f"set OMP_NUM_THREADS={cores}"
    yield Check("torch threads", "ok" if threads <= cores else "warn", f"{threads} for {cores} cores", fix)
    if torch.cuda.is_available():
        yield Check("accelerator", "ok", torch.cuda.get_device_name(0))
    else:
        yield Check("accelerator", "ok", "none; the CPU is used")
    yield _kernels()


def _kernels() -> Check:
    """Whether the native kernels can be built here, by building them."""
    build = import_module("ponder.models.native.build")
    missing = []
    for elements, rounded in (("float32", False), ("bfloat16", True)):
        try:
            build.load(rounded)
        except build.Unavailable as error:
            missing.append(f"{elements}: {error}")
    if not missing:
        return Check("kernels", "ok", "native, float32 and bfloat16")
    if len(missing) == 1:  # bfloat16 is not for every processor
        return Check("kernels", "ok", f"native; torch instead for {missing[0]}")
    fix = f"install a C compiler with OpenMP, such as gcc, and leave {build.SWITCH} unset"
    return Check("kernels", "warn", f"none, so torch does their work at about half the speed; {missing[0]}", fix)


def _energy() -> Iterator[Check]:
    """Where the energy figures of a run will come from."""
    meter = machine_meter()
    denied = next((reason for reason in meter.reasons if "permission denied" in reason), "")
    fix = "let this user read it: sudo chmod a+r /sys/class/powercap/*/energy_uj (it can leak what others compute)"
    yield Check("energy", "warn" if denied else "ok", meter.describe(), fix if denied else "")


def _memory() -> Iterator[Check]:
    total, available = _memory_bytes()
    if total is None or available is None:
        yield Check("memory", "warn", "cannot be read here", "make sure that 2 GB are free")
        return
    found = f"{available / 1e9:.1f} of {total / 1e9:.1f} GB free"
    fix = "close other programs; the pocket recipe needs about 2 GB"
    yield Check("memory", "ok" if available >= NEEDED_MEMORY_BYTES else "warn", found, fix)


def _disk() -> Iterator[Check]:
    here = Path.cwd()
    free = free_bytes(here)
    state = "ok" if free >= NEEDED_DISK_BYTES else "warn"
    yield Check("disk", state, f"{free / 1e9:.1f} GB free in {here}", "free some space, or work on another disk")
    try:
        with tempfile.TemporaryDirectory(dir=here, prefix=".ponder-doctor-"):
            pass
        yield Check("writable", "ok", str(here))
    except OSError as error:
        yield Check("writable", "fail", f"{here}: {error.strerror}", "change to a folder of your own, or use --out")


def _sandbox() -> Iterator[Check]:
    """The walls for model-written code, strongest first; only the lack of any needs mending."""
    found = import_module("ponder.sandbox.probe").probes()
    standing = [each for each in found if not each.problem]
    for each in found:
        state = "ok" if standing else "warn"
        used = " (used)" if standing and each is standing[0] else ""
        text = f"not available: {each.problem}" if each.problem else f"holds{used}"
        yield Check(f"sandbox {each.level}", state, text, each.fix)


def _pocket() -> Iterator[Check]:
    root = Path(ponder.__file__).parent / "pocket"
    for name in POCKET_MODELS:
        problem = _model_problem(root / name)
        fix = "reinstall Ponder, or rebuild the pocket models with recipes/pocket-pretrain.yaml"
        yield Check(name, "fail" if problem else "ok", problem or "present, checksums match", fix)


def _optional() -> Iterator[Check]:
    for package, extra in OPTIONAL.items():
        present = find_spec(package) is not None
        found = "installed" if present else "not installed (optional)"
        yield Check(package, "ok" if present else "warn", found, f"pip install '{extra}'")


def _model_problem(folder: Path) -> str:
    """What is wrong with a shipped model; empty when nothing is."""
    weights = folder / "model.safetensors"
    if not weights.is_file():
        return "missing"
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        return _damage(weights)
    for line in sums.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                return f"{name} is damaged: its checksum differs"
    return ""


def _damage(weights: Path) -> str:
    """Whether a safetensors file ends where its header says."""
    with weights.open("rb") as file:
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 100_000_000)))
            end = max(tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")
        except (struct.error, ValueError, KeyError, TypeError):
            return f"{weights.name} is damaged: its header cannot be read"
    missing = 8 + length + end - weights.stat().st_size
    return f"{weights.name} is damaged: {missing} bytes are missing" if missing > 0 else ""


def _processor_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()  # not Linux
    lines = (line.partition(":") for line in text.splitlines())
    return {flag for key, _, value in lines if key.strip() in ("flags", "Features") for flag in value.split()}


def _memory_bytes() -> tuple[int | None, int | None]:
    """(total, available) bytes of memory."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
        sizes = {key: int(value.split()[0]) * 1024 for key, _, value in (li.partition(":") for li in text.splitlines())}
        return sizes["MemTotal"], sizes["MemAvailable"]
    except (OSError, KeyError, ValueError, IndexError):
        pass
    try:  # macOS reports the total only
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return total, total
    except (OSError, ValueError):
        return None, None
