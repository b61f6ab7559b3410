"""Takes the pictures of the chat page in `docs/images`: `python docs/_screenshots.py`, with Chromium and Playwright."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from ponder.engines.browser import _flags, _program
from ponder.stages._tasks import draw_problems, open_tasks

IMAGES = Path(__file__).parent / "images"
PICTURES = {
    "page-desktop": ({"width": 900, "height": 620}, "light"),
    "page-dark": ({"width": 900, "height": 620}, "dark"),
    "page-phone": ({"width": 360, "height": 640}, "light"),
}
"""Name: size and colours."""


def main() -> None:
    """Serve pocket-teacher, ask it, and take the pictures."""
    IMAGES.mkdir(exist_ok=True)
    question = draw_problems(open_tasks(("arithmetic",)), "test", 1, 0)[0].messages[-1].content
    command = [sys.executable, "-m", "ponder", "serve", "pocket-teacher", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split(" at ")[1].strip().removesuffix("/v1")
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=_program(), args=_flags())
            for name in PICTURES:
                _take(browser, address, name, question)
    finally:
        server.terminate()
        server.wait(30)


def _take(browser: Browser, address: str, name: str, question: str) -> None:
    size, scheme = PICTURES[name]
    context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(address)
    page.evaluate("() => window.ponder.opening")
    page.locator("#question").fill(question)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Copy").wait_for()
    page.locator("summary").click()
    page.screenshot(path=IMAGES / f"{name}.png")
    context.close()


if __name__ == "__main__":
    main()
