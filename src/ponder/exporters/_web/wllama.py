"""llama.cpp for browsers: fetched once by npm, from a lock file, and checked again by its own hashes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from platformdirs import user_cache_path

from ponder.core.errors import ResourceError
from ponder.runs.files import atomic_folder

VERSION = "3.8.1"
HERE = Path(__file__).parent
SECONDS = 300
"""That npm may take."""
INSTALLED = Path("node_modules") / "@wllama" / "wllama"
FILES = {
    "index.js": ("esm/index.js", "e5506753e41a59c11f61f2c52422045be9fc76e32a7e47f037aaad5df4ec723e"),
    "wllama.wasm": ("esm/wasm/wllama.wasm", "551f13439366eff11e057b1b91fe46a7fdac29d56d67372d4c5f19a549dfe70c"),
    "LICENCE": ("LICENCE", "5866e3bd7e3cbd3f7c8bea6efd8a1e7fa7cc8de68c30f428aff7c6584a0fb720"),
}
"""Name here: place in the package, SHA-256."""


def wllama_files() -> Path:
    """Folder with the files of wllama, fetched if they are not there or not what they were.

    Raises:
        ResourceError: If npm is missing, cannot reach a registry, or brings something else.
    """
    folder = Path(user_cache_path("ponder")) / f"wllama-{VERSION}"
    if not _wrong(folder):
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise ResourceError("npm is not installed", where="web", fix="install Node.js 18 or newer, which brings npm")
    with atomic_folder(folder) as fresh:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, fresh / name)
        _install(npm, fresh)
        for name, (place, _) in FILES.items():
            source = fresh / INSTALLED / place
            if source.is_file():
                shutil.copy(source, fresh / name)
        shutil.rmtree(fresh / "node_modules", ignore_errors=True)
        if wrong := _wrong(fresh):
            raise ResourceError(
                f"npm brought another {wrong} than this version of Ponder was tested with",
                where=f"@wllama/wllama {VERSION}",
                fix="see which registry npm uses (npm config get registry)",
            )
    return folder


def _install(npm: str, folder: Path) -> None:
    """What the lock file says, and no script of anybody's."""
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        said = f"npm took longer than {SECONDS} seconds"
    else:
        if done.returncode == 0:
            return
        said = next((line for line in done.stderr.splitlines() if line.strip()), "npm failed")
    raise ResourceError(
        f"llama.cpp for browsers could not be fetched: {said}",
        where=f"@wllama/wllama {VERSION}",
        fix="run the export once with a network; afterwards it is kept in the cache folder",
    )


def _wrong(folder: Path) -> str:
    """The first file that is missing or not what it should be."""
    for name, (_, digest) in FILES.items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            return name
    return ""
