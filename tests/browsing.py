"""A headless Chromium for the tests of the page."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from ponder.core.errors import ResourceError  # noqa: E402
from ponder.engines.browser import _flags, _program, _Quiet  # noqa: E402


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser, or a skipped test where there is none."""
    try:
        program = _program()
    except ResourceError as error:
        pytest.skip(str(error))
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=_flags())
        yield browser
        browser.close()


@contextmanager
def static(folder: Path) -> Iterator[str]:
    """A plain static server over a folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
