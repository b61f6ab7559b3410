"""Samples from a folder for browsers in a headless Chromium: the page's own functions, as its users call them."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from playwright.sync_api import Browser, Page, Playwright, sync_playwright
from playwright.sync_api import Error as BrowserError

from ponder.core.errors import ConfigurationError, DataError, PonderError, ResourceError
from ponder.core.protocols import Sampler, Watch
from ponder.core.seeds import derive_seed
from ponder.core.types import Completion, Finish, Json, Messages, Sampling, TopK, Usage
from ponder.engines._asked import top_of_rows
from ponder.engines._stops import thinking_tokens
from ponder.models.gguf_header import read_header
from ponder.models.token_bytes import byte_level

ABOUT = "ponder-web.json"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
LOADING_SECONDS, ANSWER_SECONDS = 300, 600
T = TypeVar("T")

GENERATE = """async ([messages, sampling]) => {
  const { text, tokens, lost, forced, finish, prompt } =
    await window.ponder.transport.engine.generate(messages, sampling);
  return { text, tokens, lost, forced, finish, prompt };
}"""


class BrowserRuntime:
    """A folder that `ponder export --to web` wrote, as `ponder.core.protocols.Runtime`; one completion at a time.

    It tells no log-probabilities of what it draws.

    Args:
        folder: With `ponder-web.json`.
        name: For traces and reports.

    Raises:
        DataError: If it is no such folder.
        ResourceError: If there is no Chromium, or it cannot load the model.
    """

    def __init__(self, folder: str | Path, *, name: str = "") -> None:
        """Serve the folder to a browser and wait until the model is loaded."""
        self.path = Path(folder)
        self._about = _read_about(self.path)
        self.name = name or self.path.resolve().name
        header = read_header(self.path / self._about["file"])
        self._tokens: list[str] = header.metadata["tokenizer.ggml.tokens"]
        self._parts = [i for i in range(len(self._tokens)) if _spelled(self._tokens, [i]) is None]
        self._server = _served(self.path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="browser")  # what drives a browser stays on one thread
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None
        try:
            self._page = self._thread.submit(self._open).result()
        except BaseException:
            self.close()
            raise

    def generate(
        self, prompts: Sequence[Messages], samples: int, sampling: Sampling, watch: Watch | None = None
    ) -> list[list[Completion]]:
        """See `ponder.core.protocols.Sampler`.

        Raises:
            ConfigurationError: If a prompt is too long, or something is asked that a browser cannot do.
            PonderError: If the browser fails.
        """
        _refuse(sampling, self._about)
        groups: list[list[Completion]] = []
        tokens = 0
        for messages in prompts:
            group: list[Completion] = []
            for sample in range(samples):
                group.append(self._complete(messages, sampling, sample))
                tokens += group[-1].usage.completion_tokens
                if watch is not None:
                    watch(len(groups) * samples + len(group), tokens)
            groups.append(group)
        return groups

    def encode(self, text: str, special: bool = False) -> list[int]:
        """See `Runtime.encode`."""
        return self._ask("([text, special]) => window.ponder.transport.engine.encode(text, special)", [text, special])

    def render(self, messages: Messages, thinking: bool = True) -> str:
        """See `Runtime.render`."""
        turns = _turns(messages)
        return self._ask(
            "([turns, thinking]) => window.ponder.transport.engine.render(turns, thinking)", [turns, thinking]
        )

    def prompt(self, messages: Messages) -> list[int]:
        """See `Runtime.prompt`."""
        return self._ask("(turns) => window.ponder.transport.engine.prompt(turns)", _turns(messages))

    def top(self, sequences: Sequence[Sequence[int]], begins: Sequence[int], k: int) -> list[TopK]:
        """See `Runtime.top`; tokens that are parts of characters have no part in the distribution.

        Raises:
            ConfigurationError: If tokens are not those into which their own text is cut: wllama takes text alone.
        """
        k = min(k, len(self._tokens))
        return [self._top(tokens, begin, k) for tokens, begin in zip(sequences, begins, strict=True)]

    @property
    def positions(self) -> int | None:
        """Tokens of a prompt and its answer together."""
        return self._about["context"]

    def close(self) -> None:
        """End the browser and the server."""
        if self._server is None:
            return
        self._thread.submit(self._shut).result()
        self._thread.shutdown()
        self._server.shutdown()
        self._server.server_close()
        self._server = None

    def _open(self) -> Page:
        """On the browser's thread."""
        assert self._server is not None
        try:
            self._playwright = sync_playwright().start()
            self._browser = self._playwright.chromium.launch(executable_path=_program(), args=_flags())
            page = self._browser.new_context(service_workers="block").new_page()
            page.set_default_timeout(1000 * LOADING_SECONDS)
            page.goto(f"http://127.0.0.1:{self._server.server_port}/index.html")
            page.evaluate("() => window.ponder.opening")
            ready, said = page.evaluate("[window.ponder.ready, document.getElementById('trouble').textContent]")
        except BrowserError as error:
            raise ResourceError(f"the browser failed: {_first_line(error)}", where=str(self.path)) from error
        if not ready:
            raise ResourceError(f"the page could not load the model: {said}", where=str(self.path))
        return page

    def _shut(self) -> None:
        if self._browser is not None:
            self._browser.close()
        if self._playwright is not None:
            self._playwright.stop()

    def _ask(self, function: str, argument: Any) -> Any:
        """What a function of the page returns."""

        def ask() -> Any:
            try:
                return self._page.evaluate(function, argument)
            except BrowserError as error:
                said = _first_line(error)
                kind = ConfigurationError if "Trouble" in str(error) or "do not fit" in said else PonderError
                raise kind(said, where=self.name) from error

        return self._on_thread(ask)

    def _on_thread(self, work: Callable[[], T]) -> T:
        if self._server is None:
            raise ConfigurationError("this browser is closed", where=self.name)
        return self._thread.submit(work).result()

    def _complete(self, messages: Messages, sampling: Sampling, sample: int) -> Completion:
        turns = _turns(messages)
        asked = {
            "maxTokens": sampling.max_new_tokens,
            "maxThinking": sampling.max_thinking_tokens,
            "temperature": sampling.temperature,
            "topP": sampling.top_p,
            "topK": sampling.top_k,
            "seed": derive_seed(sampling.seed, "browser", json.dumps(turns), sample) % 2**31,
            "commit": sampling.commit,
        }
        drawn: Json = self._ask(GENERATE, [turns, asked])
        about, (opening, closing) = self._about, self._about["think"]
        opened = "<think>\n" if about["opened"] and "<think>" not in drawn["text"] else ""
        return Completion(
            text=opened + drawn["text"],
            finish=Finish(drawn["finish"]),
            prompt_tokens=tuple(drawn["prompt"]),
            tokens=tuple(drawn["tokens"]),
            forced=tuple(drawn["forced"]),
            usage=Usage(
                prompt_tokens=len(drawn["prompt"]),
                completion_tokens=len(drawn["tokens"]) + drawn["lost"],
                thinking_tokens=thinking_tokens(drawn["tokens"], (opening, closing), about["opened"], about["ends"]),
            ),
        )

    def _top(self, tokens: Sequence[int], begin: int, k: int) -> TopK:
        rows = [self._expected(tokens[:place], k) for place in range(begin, len(tokens))]
        return top_of_rows(rows, k, len(self._tokens))

    def _expected(self, prefix: Sequence[int], k: int) -> list[tuple[int, float]]:
        """(token, log-probability) of the likeliest tokens behind a prefix."""
        text = _spelled(self._tokens, prefix)
        function = "([text, ids, k, parts]) => window.ponder.transport.engine.expected(text, ids, k, parts)"
        found = None if text is None else self._ask(function, [text, list(prefix), k, self._parts])
        if found is None:
            raise ConfigurationError(
                "a browser is asked by text, and these tokens are not those into which their text is cut",
                where=self.name,
            )
        return [(int(token), float(value)) for token, value in found]


def _read_about(folder: Path) -> Json:
    try:
        about: Json = json.loads((folder / ABOUT).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError("this is no folder that `ponder export --to web` wrote", where=str(folder / ABOUT)) from error
    wanted = {"file", "bytes", "context", "specials", "ends", "think", "opened", "first", "threads"}
    if not isinstance(about, dict) or about.get("format") != 1 or wanted - about.keys():
        raise DataError(
            "this folder is of another version, or damaged", where=str(folder / ABOUT), fix="export it anew"
        )
    if Path(about["file"]).name != about["file"]:
        raise DataError("the model does not lie in this folder", where=str(folder / ABOUT))
    return about


def _refuse(sampling: Sampling, about: Json) -> None:
    """What the page cannot do."""
    asked = {
        "waits": sampling.waits > 0,
        "break_loops": sampling.break_loops,
        "json_schema": sampling.json_schema is not None,
        "stop": bool(sampling.stop),
    }
    for name, wanted in asked.items():
        if wanted:
            raise ConfigurationError(f"the page in a browser has no {name}", where=name, fix="leave it out")
    if sampling.max_thinking_tokens is not None and None in about["think"]:
        raise ConfigurationError(
            "a thinking budget needs <think> and </think> as single tokens, which this model lacks",
            where="max_thinking_tokens",
            fix="leave it out, or use a model with thinking tags",
        )


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word about it."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _served(folder: Path) -> http.server.ThreadingHTTPServer | None:
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _program() -> str:
    """Chromium as it is installed here.

    Raises:
        ResourceError: If it is not.
    """
    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if found is None:
        raise ResourceError("there is no Chromium", fix="install chromium (Debian: apt-get install chromium)")
    return found


def _flags() -> list[str]:
    """Chromium's own sandbox cannot be had by root."""
    return ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []


def _turns(messages: Messages) -> list[Json]:
    return [turn.model_dump(exclude_none=True) for turn in messages]


def _spelled(tokens: Sequence[str], ids: Sequence[int]) -> str | None:
    """The text of tokens, special ones by their names in the file; None where it ends within a character."""
    pieces = [name.encode() if "\x02" in name else byte_level(name) for name in map(tokens.__getitem__, ids)]
    if None in pieces:
        return None
    data = b"".join(piece for piece in pieces if piece is not None)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _first_line(error: BrowserError) -> str:
    return error.message.removeprefix("Page.evaluate: ").splitlines()[0]


plugin: type[Sampler] = BrowserRuntime
