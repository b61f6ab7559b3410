"""Compiles the kernels for this processor and loads them."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from platformdirs import user_cache_path

SWITCH = "PONDER_NATIVE"
"""Environment variable: 0 turns the kernels off."""
COMPILERS = ("cc", "gcc", "clang")
OPTIONS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")
FOLDER = Path(__file__).parent
BFLOAT16 = "__AVX512BF16__"
"""What a compiler defines where the processor multiplies bfloat16."""
BUILD_SECONDS = 120


class Unavailable(Exception):
    """Why there are no kernels here."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels, compiled for one kind of elements."""

    functions: ctypes.CDLL
    rounded: bool
    """Elements of matrices are bfloat16, else float32."""
    panel: int
    """Rows of a panel of a packed matrix."""
    lanes: int
    """Numbers of a vector register."""

    @property
    def dtype(self) -> torch.dtype:
        """Of elements."""
        return torch.bfloat16 if self.rounded else torch.float32

    @property
    def pair(self) -> int:
        """Elements that are multiplied at once by one number's place."""
        return 2 if self.rounded else 1


def kernels(rounded: bool) -> Kernels | None:
    """The kernels, if this machine can have them."""
    try:
        return load(rounded)
    except Unavailable:
        return None


def load(rounded: bool) -> Kernels:
    """The kernels.

    Raises:
        Unavailable: If they are switched off or cannot be built here.
    """
    if os.environ.get(SWITCH, "").strip() == "0":
        raise Unavailable(f"switched off by {SWITCH}=0")
    found = _load(rounded)
    if isinstance(found, str):
        raise Unavailable(found)
    return found


@cache
def _load(rounded: bool) -> Kernels | str:
    """The kernels, or why there are none; tried once."""
    try:
        path = _built(rounded)
        functions = ctypes.CDLL(str(path))
    except (Unavailable, OSError, subprocess.SubprocessError) as error:
        return str(error)
    for name in ("panel", "lanes", "scratch_bytes", "attention_scratch"):
        getattr(functions, name).restype = ctypes.c_int64
    return Kernels(functions, rounded, functions.panel(), functions.lanes())


def _built(rounded: bool) -> Path:
    """The compiled file, made when it is missing: its name says from which source, by what and for which processor."""
    compiler = next(_compilers(), None)
    if compiler is None:
        raise Unavailable("there is no C compiler")
    target = _run(compiler, "-march=native", "-dM", "-E", "-x", "c", os.devnull)
    if rounded and BFLOAT16 not in target:
        raise Unavailable("the processor does not multiply bfloat16")
    sources = sorted(path for path in FOLDER.iterdir() if path.suffix in (".c", ".h"))
    digest = hashlib.blake2b(digest_size=12)
    for part in (target, *OPTIONS, str(rounded), *(path.read_text(encoding="utf-8") for path in sources)):
        digest.update(part.encode() + b"\0")
    path = Path(user_cache_path("ponder")) / "native" / f"{digest.hexdigest()}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            fresh = Path(folder) / path.name
            code = [str(path) for path in sources if path.suffix == ".c"]
            _run(compiler, *OPTIONS, f"-DROUNDED={int(rounded)}", *code, "-o", str(fresh), "-lm")
            fresh.replace(path)  # whole or not at all, also when two processes build at once
    return path


def _compilers() -> Iterator[str]:
    for name in (os.environ.get("CC", ""), *COMPILERS):
        if name and (found := shutil.which(name)):
            yield found


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS)
    if done.returncode:
        raise Unavailable(f"{Path(command[0]).name} failed: {done.stderr.strip()[-300:]}")
    return done.stdout
