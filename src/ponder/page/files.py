"""The files of the page by name, and what a browser may do with them."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "files"
INDEX = "index.html"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
    ".txt": "text/plain; charset=utf-8",
}
"""Media types by ending."""
SHARED = ("chat.css", "chat.js", "icon.svg", "trouble.js", "turns.js")
"""Below `page/`, whatever the page talks to."""
SERVED = (*SHARED, "http.js", "start.js")
"""Below `page/`, where a server is behind it."""
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'"
)
"""Nothing comes from elsewhere and nothing goes there, whatever a model says."""
WASM_POLICY = POLICY.replace("script-src 'self'", "script-src 'self' 'wasm-unsafe-eval'") + "; worker-src 'self' blob:"
"""The same where the model runs in the page: llama.cpp is WebAssembly, in a worker that is made of a blob."""


def page_file(name: str) -> bytes:
    """Content of a file of the page."""
    return (FOLDER / name).read_bytes()


def media_type(name: str) -> str:
    """As a header names it."""
    return KINDS.get(Path(name).suffix, "application/octet-stream")
