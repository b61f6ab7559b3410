"""The chat page of `ponder serve` in a headless Chromium: keyboard, phone, hostile models, failing servers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from browsing import chromium
from serving import NAME, Served, serving, until

from ponder.serve.limits import Limits  # isort: skip
from ponder.serve.page import PAGE_PATHS  # isort: skip

KEY = "sk-of-the-page"
HOSTILE = [
    "<script>window.hit = 1</script>", "<img src=x onerror='window.hit = 1'>", "[x](javascript:window.hit=1)",
    "<svg onload='window.hit=1'><a href='javascript:window.hit=1'>x</a></svg>", "</textarea><b>bold</b>",
    "<math><maction actiontype='statusline'>x</maction></math>", "</div></li></ol><iframe srcdoc='<p>x'></iframe>",
    "\u202egnp.exe", "\x1b[31mred\x1b[0m", "![x](https://elsewhere.example/x.png)",
    "<img src='https://elsewhere.example/x.png'>", "<style>*{display:none}</style>", "<base href='https://elsewhere.example/'>",
    "<link rel=stylesheet href='https://elsewhere.example/x.css'>", "{{constructor.constructor('window.hit=1')()}}",
    "<form action='https://elsewhere.example/'><button>go</button></form>", "<a href='https://elsewhere.example/'>x</a>",
    "<object data='https://elsewhere.example/'></object>", "<meta http-equiv=refresh content='0;url=https://elsewhere.example/'>",
]  # fmt: skip
"""What a model may say; all of it must stay text."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(Limits()) as running:
        yield running


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    context = browser.new_context()
    yield opened(context, f"http://localhost:{served.port}/")
    context.close()


def opened(context: Any, address: str, **_: Any) -> Any:
    """The page, its foreign requests and its errors noted."""
    page = context.new_page()
    page.foreign, page.failed = [], []
    own = address.split("/")[2]
    page.on("request", lambda request: None if own in request.url else page.foreign.append(request.url))
    page.on("pageerror", lambda error: page.failed.append(str(error)))
    page.goto(address)
    page.evaluate("() => window.ponder.opening")
    return page


def stream(*pieces: dict[str, str], ended: bool = True, finish: str = "stop") -> str:
    """A reply as the server streams it."""
    chunks = [{"choices": [{"index": 0, "delta": piece, "finish_reason": None}]} for piece in pieces]
    last = [{"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}]
    usage = {"completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 3}}
    last += [{"choices": [], "usage": usage}]
    text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in [*chunks, *(last if ended else [])])
    return text + ("data: [DONE]\n\n" if ended else "")


def answering(page: Any, reply: Callable[[Any], None]) -> list[dict[str, Any]]:
    """Answer the page's questions in the server's stead; returns what is asked."""
    asked: list[dict[str, Any]] = []

    def answer(route: Any) -> None:
        asked.append(json.loads(route.request.post_data))
        reply(route)

    page.route("**/v1/chat/completions", answer)
    return asked


def says(*pieces: dict[str, str], **how: Any) -> Callable[[Any], None]:
    return lambda route: route.fulfill(body=stream(*pieces, **how), content_type="text/event-stream")


def ask(page: Any, text: str = "What is 3 + 4?") -> None:
    page.locator("#question").fill(text)
    page.keyboard.press("Enter")


def test_a_real_answer_comes_and_nothing_is_loaded_from_elsewhere(page: Any) -> None:
    ask(page)
    page.locator(".answer .tools button").first.wait_for()
    assert "tokens/s" in page.locator(".about").inner_text()
    assert page.title() == f"{NAME} - Ponder"
    assert not page.foreign and not page.failed
    assert page.evaluate("document.activeElement.id") == "question"


def test_thoughts_are_apart_and_folded(page: Any) -> None:
    asked = answering(
        page, says({"reasoning_content": "3 and 4"}, {"reasoning_content": " is 7"}, {"content": "It is 7."})
    )
    ask(page, "  What?  ")
    page.locator(".tools").wait_for()
    page.get_by_role("button", name="Copy").wait_for()
    assert page.locator(".answer > .text").inner_text() == "It is 7."
    assert not page.locator(".thought").is_visible()
    page.locator("summary").click()
    assert page.locator(".thought").inner_text() == "3 and 4 is 7"
    assert asked[0]["messages"] == [{"role": "user", "content": "What?"}] and "max_thinking_tokens" not in asked[0]
    page.locator("#budget").fill("1")
    assert page.locator("#allowed").inner_text() == "16 tokens"
    ask(page, "And 5?")
    page.locator(".answer").nth(1).get_by_role("button", name="Copy").wait_for()
    assert asked[1]["max_thinking_tokens"] == 16
    assert asked[1]["messages"][1] == {"role": "assistant", "content": "It is 7.", "reasoning_content": "3 and 4 is 7"}


def test_whatever_a_model_says_is_text(page: Any) -> None:
    whole = "\n".join(HOSTILE)
    answering(page, says({"reasoning_content": whole}, {"content": whole}))
    before = page.evaluate("document.querySelectorAll('*').length")
    ask(page, whole)
    page.get_by_role("button", name="Copy").wait_for()
    page.locator("summary").click()
    assert page.evaluate("document.querySelector('.answer > .text').textContent") == whole
    assert page.evaluate("document.querySelector('.thought').textContent") == whole
    names = page.evaluate("[...new Set([...document.querySelectorAll('#log *')].map((e) => e.localName))].sort()")
    assert names == ["button", "details", "div", "h2", "li", "p", "summary"]
    assert page.evaluate("document.querySelectorAll('*').length") - before == 3 + 8 + 2
    page.wait_for_timeout(200)
    assert page.evaluate("window.hit") is None and not page.foreign
    assert page.evaluate("getComputedStyle(document.querySelector('.text')).unicodeBidi") == "isolate"
    page.reload()
    page.evaluate("() => window.ponder.opening")
    assert page.evaluate("document.querySelector('.answer > .text').textContent") == whole
    assert page.evaluate("window.hit") is None and not page.foreign


def test_the_policy_stops_what_the_page_never_does(page: Any, served: Served) -> None:
    """The second wall: even markup that got in could load and run nothing."""
    page.evaluate("""() => {
      const place = document.querySelector('main');
      place.innerHTML += '<img src="https://elsewhere.example/x" onerror="window.hit = 1"><img src="//127.0.0.1:1">';
      const script = document.createElement('script'); script.textContent = 'window.hit = 2'; place.append(script);
    }""")
    assert page.evaluate("fetch('https://elsewhere.example/').then(() => 'sent', () => 'stopped')") == "stopped"
    page.wait_for_timeout(200)
    assert page.evaluate("window.hit") is None
    policy = served.send("GET", "/").headers["content-security-policy"]
    assert policy.startswith("default-src 'self'") and "unsafe" not in policy and "frame-ancestors 'none'" in policy


def test_escape_stops_an_answer_and_frees_the_server(browser: Any) -> None:
    with serving(Limits()) as running:
        context = browser.new_context()
        page = opened(context, f"http://localhost:{running.port}/")
        page.route("**/v1/chat/completions", lambda route: None)  # a model that never says anything
        ask(page)
        page.locator("#stop").wait_for()
        assert page.locator("#send").is_disabled()
        page.keyboard.press("Escape")
        page.locator("#stop").wait_for(state="hidden")
        assert page.locator(".about").inner_text() == "Stopped." and page.locator("#trouble").is_hidden()
        page.unroute_all()
        ask(page, "x")
        page.get_by_role("button", name="Copy").nth(1).wait_for()
        context.close()
        assert running.service.worker.alive


@pytest.mark.parametrize(("status", "body", "headers", "said"), [
    (429, '{"error": {"message": "full"}}', {"retry-after": "5"}, "too much to do. Press Retry in 5 seconds"),
    (503, "", {}, "in a moment"), (500, "<h1>x</h1>", {}, "server failed (500)"),
    (400, '{"error": {"message": "too long"}}', {}, "too long. Change it"),
])  # fmt: skip
def test_troubles_say_what_to_do(page: Any, status: int, body: str, headers: dict[str, str], said: str) -> None:
    answering(page, lambda route: route.fulfill(status=status, body=body, headers=headers))
    ask(page)
    page.locator("#trouble").wait_for()
    assert said in page.locator("#trouble").inner_text()
    assert page.locator(".answer").count() == 0 and page.locator(".asked").count() == 1
    page.unroute_all()
    page.locator("#trouble button").click()
    page.get_by_role("button", name="Copy").wait_for()
    assert page.locator("#trouble").is_hidden() and page.locator(".asked").count() == 1


def test_a_connection_that_breaks(page: Any) -> None:
    answering(page, says({"content": "It is"}, ended=False))
    ask(page)
    page.locator("#trouble").wait_for()
    assert "was cut" in page.locator("#trouble").inner_text()
    assert (
        page.locator(".answer > .text").inner_text() == "It is" and "Not whole" in page.locator(".about").inner_text()
    )
    page.unroute_all()
    page.context.set_offline(True)
    page.locator("#trouble button").click()
    page.get_by_text("cannot be reached").wait_for()
    page.context.set_offline(False)
    page.locator("#trouble button").click()
    page.get_by_role("button", name="Copy").wait_for()
    assert page.locator(".asked").count() == page.locator(".answer").count() == 1


def test_leaving_in_the_middle(browser: Any, served: Served) -> None:
    """A reload shows the question and offers to ask it again; a closed tab leaves the server free."""
    context = browser.new_context()
    page = opened(context, f"http://localhost:{served.port}/")
    page.route("**/v1/chat/completions", lambda route: None)
    ask(page, "Kept?")
    page.locator("#stop").wait_for()
    page.reload()
    page.evaluate("() => window.ponder.opening")
    assert page.locator(".asked .text").inner_text() == "Kept?"
    page.unroute_all()
    page.locator("#trouble button").click()
    page.get_by_role("button", name="Copy").wait_for()
    ask(page, "x " * 50)
    context.close()
    assert until(lambda: served.ask("x").status == 200)


def test_a_slow_model_is_waited_for_aloud(page: Any) -> None:
    page.clock.install()
    page.route("**/v1/chat/completions", lambda route: None)
    ask(page)
    page.locator("#stop").wait_for()
    page.clock.run_for(7000)
    assert "Waiting for" in page.locator("#state").inner_text()


def test_the_key_is_asked_for_and_kept_out_of_addresses(browser: Any) -> None:
    with serving(Limits(), key=KEY) as running:
        context = browser.new_context()
        page = opened(context, f"http://localhost:{running.port}/")
        page.locator("#locked").wait_for()
        for key in ("wrong", KEY):
            page.get_by_label("Key", exact=True).fill(key)
            page.keyboard.press("Enter")
            page.wait_for_timeout(150)
        page.locator("#send:not([disabled])").wait_for()
        ask(page)
        page.get_by_role("button", name="Copy").wait_for()
        assert KEY not in page.url and page.evaluate("localStorage.length + document.cookie.length") == 0
        page.reload()
        page.evaluate("() => window.ponder.opening")
        assert page.locator("#locked").is_hidden()
        context.close()


def test_everything_can_be_done_with_a_keyboard(page: Any) -> None:
    answering(page, says({"reasoning_content": "so"}, {"content": "It is 7."}))
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    assert page.locator("#question").input_value() == "one\ntwo" and page.locator(".asked").count() == 0
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Copy").wait_for()
    page.evaluate("document.activeElement.blur(); window.getSelection().removeAllRanges()")
    page.locator(".skip").focus()
    visited = []
    for _ in range(7):
        page.keyboard.press("Tab")
        visited.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert visited[:3] == ["anew", "Thoughts", "Copy"] or visited[1:4] == ["Thoughts", "Copy", "Retry"], visited
    assert visited.index("question") < visited.index("budget")
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    assert page.locator(".thought").is_visible()


def test_what_a_screen_reader_is_told(page: Any) -> None:
    answering(page, says({"content": "It is 7."}))
    ask(page)
    page.get_by_role("button", name="Copy").wait_for()
    told = page.locator("body").aria_snapshot()
    for part in ('button "New conversation"', 'list "Conversation"', 'textbox "Your question"', 'heading "Model"',
                 'slider "Thinking, at most"', 'button "Send"', "It is 7."):  # fmt: skip
        assert part in told, told
    answer = page.locator(".answer > .text")
    assert answer.get_attribute("aria-live") == "polite" and answer.get_attribute("aria-busy") == "false"
    assert page.locator("#trouble").get_attribute("role") == "alert"
    assert page.locator("#budget").get_attribute("aria-valuetext") == "no limit"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_phone(browser: Any, served: Served, scheme: str) -> None:
    size = {"width": 360, "height": 640}
    context = browser.new_context(viewport=size, has_touch=True, color_scheme=scheme, reduced_motion="reduce")
    page = opened(context, f"http://localhost:{served.port}/")
    answering(page, says({"reasoning_content": "w" * 500}, {"content": "x" * 500 + " and more" * 300}))
    ask(page, "y" * 500)
    page.get_by_role("button", name="Copy").wait_for()
    page.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for place in ("#send", "#budget", "#question"):
        box = page.locator(place).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["y"] + box["height"] <= 640
    assert page.evaluate("getComputedStyle(document.querySelector('main')).scrollBehavior") == "auto"
    contrast = page.evaluate("""() => {
      const light = (colour) => { const [r, g, b] = colour.match(/[0-9.]+/g).map((v) => v / 255)
        .map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
      const ground = light(getComputedStyle(document.body).backgroundColor);
      return [...document.querySelectorAll('.text, .about, .thought, #keys, output')].map((e) => {
        const ink = light(getComputedStyle(e).color);
        return (Math.max(ink, ground) + .05) / (Math.min(ink, ground) + .05); });
    }""")
    assert min(contrast) >= 4.5
    context.close()


def test_the_files_are_the_same_for_everybody(served: Served) -> None:
    for path in PAGE_PATHS:
        reply = served.send("GET", path)
        assert reply.status == 200 and reply.headers["x-content-type-options"] == "nosniff"
        assert b"://" not in reply.body.replace(b"http://www.w3.org/2000/svg", b"")
    assert served.send("GET", "/page/../../app.py").status in (400, 401, 404)
    assert served.send("POST", "/", {}).status == 405
