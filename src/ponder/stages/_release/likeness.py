"""Whether a runtime reads a conversation as the trained model does: the same text, the same tokens, no token twice."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ponder.core.answers import THINK_CLOSE, THINK_OPEN
from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Runtime
from ponder.core.types import Json, Message, Messages
from ponder.measure.release import Bounds, Finding
from ponder.stages._release.texts import is_composed

MOST_REFUSED = 0.02
"""Share of the texts that a runtime may refuse aloud."""
EXAMPLES = 5
"""Texts that a finding shows."""
_USER = Message(role="user", content="Anna has 12 coins. She finds 7.\nHow many has she?")
_SPACED = Message(role="user", content="  Is 3 < 5?\n\n")
_SYSTEM = Message(role="system", content="You count. Be brief.")
_ANSWER = Message(role="assistant", content="The answer is 19.")
_THOUGHT = Message(role="assistant", content="The answer is 19.", reasoning_content="12 + 7 = 19")
CONVERSATIONS: dict[str, Messages] = {
    "single": (_USER,),
    "spaces": (_SPACED,),
    "system": (_SYSTEM, _USER),
    "several turns": (_USER, _ANSWER, _SPACED),
    "several turns with thinking": (_SYSTEM, _USER, _THOUGHT, _USER, _THOUGHT, _SPACED),
}
_SHUT = re.compile(rf"\s*{THINK_OPEN}\s*{THINK_CLOSE}\s*")


def tokenizer_finding(chat: Chat, runtime: Runtime, texts: Sequence[str], bounds: Bounds) -> Finding:
    """Whether every text becomes the same tokens, and no text forges a special one."""
    specials = special_names(chat)
    forging = re.compile("|".join(map(re.escape, specials))) if specials else None
    special_ids = set(chat.tokenizer.added_tokens_decoder)
    wrong: list[Json] = []
    forged: list[str] = []
    refused = 0
    for text in texts:
        named = forging is not None and forging.search(text) is not None
        try:
            expected, found, as_text = chat.encode(text), runtime.encode(text, special=True), runtime.encode(text)
        except ConfigurationError:  # said aloud, which is not the same as reading something else
            refused += 1
            continue
        if expected != found:
            wrong.append({"text": text, "trained": expected[:40], "runtime": found[:40]})
        if named:
            forged += [text] if special_ids & set(as_text) else []
        elif as_text != expected:
            wrong.append({"text": text, "trained": expected[:40], "runtime": as_text[:40]})
    facts: Json = {"texts": len(texts), "different": len(wrong), "examples": wrong[:EXAMPLES]}
    facts |= {"forged": len(forged), "refused": refused}
    if refused > MOST_REFUSED * len(texts):
        text = f"{refused} of {len(texts):,} texts are refused"
        return Finding(name="tokenizer", passed=False, text=text, facts=facts)
    if forged:
        text = f"{len(forged)} texts of {len(texts):,} become special tokens where they should stay text"
        return Finding(name="tokenizer", passed=False, text=text, facts=facts)
    if not wrong:
        left = f", {refused} refused" if refused else ""
        text = f"the same tokens for {len(texts) - refused:,} texts{left}"
        return Finding(name="tokenizer", passed=True, text=text, facts=facts)
    if not any(is_composed(row["text"]) for row in wrong):
        text = (
            f"other tokens for {len(wrong)} of {len(texts):,} texts, all of which NFC changes: the runtime lacks the "
            "tokenizer's normaliser"
        )
        return Finding(name="normaliser", passed=bounds.uncomposed, text=text, facts=facts)
    return Finding(
        name="tokenizer", passed=False, text=f"other tokens for {len(wrong)} of {len(texts):,} texts", facts=facts
    )


def prompt_findings(chat: Chat, runtime: Runtime) -> list[Finding]:
    """Whether every kind of conversation is rendered alike, and read with one BOS, where there is any."""
    rendered: list[Finding] = []
    begun: list[Finding] = []
    for kind, messages in CONVERSATIONS.items():
        if (found := _rendering(kind, messages, chat, runtime)) is not None:
            rendered.append(found)
        elif (found := _beginning(kind, messages, chat, runtime)) is not None:
            begun.append(found)
    count = len(CONVERSATIONS)
    if not rendered:
        rendered = [Finding(name="template", passed=True, text=f"the same text for {count} kinds of conversation")]
    if not begun:
        begun = [Finding(name="bos", passed=True, text=f"the same first tokens for {count} kinds of conversation")]
    return [*_distinct(rendered), *_distinct(begun)]


def special_names(chat: Chat) -> list[str]:
    """Texts that the tokenizer reads as one token of its own."""
    return [str(token.content) for token in chat.tokenizer.added_tokens_decoder.values()]


def _rendering(kind: str, messages: Messages, chat: Chat, runtime: Runtime) -> Finding | None:
    for thinking in (True, False):
        expected, found = chat.render(messages, thinking=thinking), runtime.render(messages, thinking=thinking)
        if expected == found:
            continue
        facts: Json = {"conversation": kind, "thinking": thinking, "trained": expected, "runtime": found}
        if thinking and found.startswith(expected.rstrip()) and _SHUT.fullmatch(found[len(expected.rstrip()) :]):
            text = "the runtime closes the thought before it begins: thinking is off"
            return Finding(name="thinking", passed=False, text=text, facts=facts)
        text = f"another text for a conversation ({kind}{'' if thinking else ', thinking off'})"
        return Finding(name="template", passed=False, text=text, facts=facts)
    return None


def _beginning(kind: str, messages: Messages, chat: Chat, runtime: Runtime) -> Finding | None:
    expected, found = chat.prompt(messages), runtime.prompt(messages)
    if expected == found:
        return None
    facts: Json = {"conversation": kind, "trained": expected[:40], "runtime": found[:40]}
    if found[1:] == expected and found[:1]:
        twice = found[:1] == expected[:1]
        text = "BOS stands twice" if twice else "the runtime adds a BOS that the model never saw"
        return Finding(name="bos", passed=False, text=text, facts=facts)
    if expected[1:] == found:
        return Finding(name="bos", passed=False, text="the runtime leaves the BOS out", facts=facts)
    return Finding(name="template", passed=False, text=f"other tokens for a conversation ({kind})", facts=facts)


def _distinct(findings: Sequence[Finding]) -> list[Finding]:
    """The first of each name: the other conversations fail for the same reason."""
    first: dict[str, Finding] = {}
    for finding in findings:
        first.setdefault(finding.name, finding)
    return list(first.values())
