"""Writes a model as a static folder that runs it in the browser, with no server behind it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pydantic import Field

from ponder.core.answers import THINK_CLOSE, THINK_OPEN
from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError
from ponder.core.plugins import load_plugin
from ponder.core.protocols import Exporter
from ponder.core.types import Json, Message, Record
from ponder.exporters._web.marks import can_be_marked, rename
from ponder.exporters._web.readme import README
from ponder.exporters._web.wllama import FILES, VERSION, wllama_files
from ponder.models.gguf_header import GgufHeader, read_header
from ponder.models.load import load_tokenizer
from ponder.page.files import INDEX, SHARED, WASM_POLICY, page_file
from ponder.runs.files import atomic_folder

ABOUT, MODEL = "ponder-web.json", "model.gguf"
MAX_BYTES = 2**31 - 1
"""Of a model: a browser holds no larger piece of memory."""
MAX_CONTEXT = 4096
"""Tokens of a prompt and its answer together."""
ONE_THREAD = 50_000_000
"""Below so many parameters threads wait for each other longer than they save (measured: 10 times slower)."""
CONTROL, DEFINED = 3, 4
"""Kinds of tokens."""
ALONE = (*SHARED, "engine.js", "local.js")
_PROBE = (Message(role="user", content="x"),)


class Web(Record):
    """The chat page with llama.cpp as WebAssembly and the model as GGUF: a folder for any static web server."""

    form: str = "q8_0"
    """Of the model's matrices, as for `gguf`."""
    name: str = ""
    """Of the folder and the model in it; by default the model folder's."""
    importance: dict[str, Any] = Field(default_factory=dict, exclude=True)
    """As for `gguf`."""

    def __call__(self, model: Path, out: Path) -> Path:
        """Write `NAME-web-FORM/` into a folder, whole or not at all; a folder of that name is replaced.

        Raises:
            ConfigurationError: If the model cannot be a GGUF file, is too large for a browser, or names its special
                tokens in a way that cannot be told from text.
            ResourceError: If wllama cannot be fetched, or the disk is full.
        """
        runtime = wllama_files()
        name = self.name or model.resolve().name
        path = out / f"{name}-web-{self.form}"
        with atomic_folder(path) as folder:
            written = self._gguf(name)(model, folder / "gguf")
            header = read_header(written)
            about = _about(name, header, Chat(load_tokenizer(model)), written.stat().st_size)
            rename(written, about["specials"], header.data_offset)
            written.rename(folder / MODEL)
            shutil.rmtree(folder / "gguf")
            _write(folder, about, runtime)
            (folder / MODEL).chmod(0o644)
            folder.chmod(0o755)  # what a web server shows to everybody may be read by its user
        return path

    def differences(self, model: Path, artefact: Path) -> list[tuple[str, str]]:
        """See `ponder.core.protocols.Inspector`: of the model in the folder, its usual names given back."""
        about: Json = json.loads((artefact / ABOUT).read_bytes())
        with tempfile.TemporaryDirectory() as place:
            copy = Path(place) / MODEL
            shutil.copy(artefact / MODEL, copy)
            rename(copy, about["specials"], read_header(copy).data_offset, back=True)
            return list(self._gguf(about["name"]).differences(model, copy))

    def _gguf(self, name: str) -> Any:
        return load_plugin("exporters", "gguf")(form=self.form, name=name, importance=self.importance)


def _about(name: str, header: GgufHeader, chat: Chat, size: int) -> Json:
    """What the page needs to know of the model."""
    if size > MAX_BYTES:
        raise ConfigurationError(
            f"the model has {size / 2**30:.1f} GiB, and a browser takes 2 GiB at most",
            where="to",
            fix="choose a form with fewer bits, such as web:q4_k_m",
        )
    tokens: list[str] = header.metadata["tokenizer.ggml.tokens"]
    kinds: list[int] = header.metadata["tokenizer.ggml.token_type"]
    specials = {tokens[i]: i for i, kind in enumerate(kinds) if kind in (CONTROL, DEFINED) and tokens[i]}
    if odd := [token for token in specials if not can_be_marked(token)]:
        raise ConfigurationError(
            f"the special token {odd[0]!r} cannot be told from text in a browser",
            fix="export it for llama.cpp (--to gguf), which can, or name special tokens <...>",
        )
    think = [specials.get(THINK_OPEN), specials.get(THINK_CLOSE)]
    ends = [header.metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("eos", "eot")]
    return {
        "format": 1,
        "name": name,
        "file": MODEL,
        "bytes": size,
        "context": min(int(header.of_model("context_length")), MAX_CONTEXT),
        "threads": 1 if header.parameters < ONE_THREAD else 0,
        "specials": specials,
        "first": tokens[chat.end_id],
        "ends": sorted({end for end in ends if end is not None}),
        "think": think,
        "opened": chat.render(_PROBE).rstrip().endswith(THINK_OPEN),
        "wllama": VERSION,
    }


def _write(folder: Path, about: Json, runtime: Path) -> None:
    """Everything but the model."""
    for place in ("page", "wllama"):
        (folder / place).mkdir()
    for file in ALONE:
        (folder / "page" / file).write_bytes(page_file(file))
    (folder / "page" / "start.js").write_bytes(page_file("start-alone.js"))
    for file in FILES:
        shutil.copy(runtime / file, folder / "wllama" / file)
    policy = f'<meta http-equiv="Content-Security-Policy" content="{WASM_POLICY}">'
    index = page_file(INDEX).decode().replace("<!-- policy -->", policy)
    index = index.replace("<!-- install -->", '<link rel="manifest" href="manifest.webmanifest">')
    (folder / INDEX).write_text(index, encoding="utf-8")
    _write_json(folder / ABOUT, about)
    icon = {"src": "page/icon.svg", "sizes": "any", "type": "image/svg+xml"}
    manifest = {"name": about["name"], "short_name": about["name"][:12], "start_url": "./", "scope": "./", "id": "./"}
    _write_json(folder / "manifest.webmanifest", {**manifest, "display": "standalone", "icons": [icon]})
    memory = (about["bytes"] >> 20) * 2 + 100
    threads = "" if about["threads"] == 1 else ", more where the server allows it"
    line = "=" * (len(about["name"]) + len(" in the browser"))
    text = README.format(name=about["name"], line=line, memory=memory, threads=threads, version=VERSION)
    (folder / "README.txt").write_text(text, encoding="utf-8")
    _write_worker(folder)


def _write_worker(folder: Path) -> None:
    """The service worker, which knows every file by name and all of them by one digest."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for file in files:
        with (folder / file).open("rb") as content:
            digest.update(f"{file}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    kept = ["./", *(file for file in files if not re.search(r"README\.txt|LICENCE", file))]
    script = page_file("sw.js").decode().replace("@DIGEST@", digest.hexdigest()[:16])
    (folder / "sw.js").write_text(script.replace("@FILES@", json.dumps(kept)), encoding="utf-8")


def _write_json(path: Path, data: Json) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=True) + "\n", encoding="utf-8")


plugin: type[Exporter] = Web
