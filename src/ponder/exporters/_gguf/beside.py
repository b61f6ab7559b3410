"""What comes with a GGUF file: a Modelfile for Ollama, and the folders in which LM Studio looks for it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError

from ponder.core.chat import Chat
from ponder.core.types import Message, Messages
from ponder.runs.files import make_folder, write_atomic

LM_STUDIO = Path("lmstudio") / "ponder"
"""Below it LM Studio's layout: publisher, model, file."""
ROLES = ("system", "user", "assistant")
_USER, _SYSTEM = Message(role="user", content=" Two words.\n"), Message(role="system", content=" Be brief.\n")
_ANSWER = Message(role="assistant", content=" It is 3.\n")  # with space around it, which some templates cut off
PROBES: tuple[Messages, ...] = (
    (_USER,), (_SYSTEM, _USER), (_USER, _ANSWER, _USER), (_SYSTEM, _USER, _ANSWER, _USER, _ANSWER, _USER),
)  # fmt: skip
"""Conversations that the template for Ollama must render as the model's own does."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A template that puts the same text before and behind every turn of a role, and nothing between turns."""

    turns: dict[str, tuple[str, str]]
    """Before and behind, by role."""
    prompt: str
    """Where the answer begins."""

    def rendered(self, messages: Messages) -> str:
        """A conversation with the generation prompt."""
        return "".join(f"{self.turns[m.role][0]}{m.content}{self.turns[m.role][1]}" for m in messages) + self.prompt

    def for_ollama(self) -> str:
        """The same as a Go template."""
        branches = "".join(
            f'{{{{ {"if" if not place else "else if"} eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{behind}'
            for place, (role, (before, behind)) in enumerate(self.turns.items())
        )
        return f"{{{{ range .Messages }}}}{branches}{{{{ end }}}}{{{{ end }}}}{self.prompt}"


def write_beside(path: Path, chat: Chat, name: str) -> list[Path]:
    """Write the Modelfile and LM Studio's folder beside a GGUF file; returns both paths."""
    modelfile = path.with_name(f"Modelfile-{path.stem}")
    write_atomic(modelfile, modelfile_text(path.name, chat).encode())
    studio = path.parent / LM_STUDIO / f"{name}-GGUF" / path.name
    make_folder(studio.parent)
    studio.unlink(missing_ok=True)
    try:
        os.link(path, studio)
    except OSError:  # a disk without links
        shutil.copy2(path, studio)
    return [modelfile, studio]


def modelfile_text(file: str, chat: Chat) -> str:
    """What `ollama create NAME -f Modelfile` reads."""
    lines = [f"FROM ./{file}"]
    frame = frame_of(chat)
    if frame is None:
        lines.append("# The chat template cannot be said in Ollama's language: check what it makes of a conversation.")
    else:
        lines.append(f'TEMPLATE """{frame.for_ollama()}"""')
    names = [str(chat.tokenizer.decode([token])) for token in sorted(chat.stop_ids)]
    lines += [f"PARAMETER stop {json.dumps(name, ensure_ascii=False)}" for name in names if name.strip()]
    lines += ["PARAMETER temperature 0", "PARAMETER repeat_penalty 1"]
    return "\n".join(lines) + "\n"


def frame_of(chat: Chat, probes: Sequence[Messages] = PROBES) -> Frame | None:
    """The frame that renders as the chat template does; None where there is none."""
    marks = {role: f"\ue000{role}\ue001" for role in ROLES}
    try:
        whole = chat.render([Message(role=role, content=marks[role]) for role in ROLES], generation=True)  # type: ignore[arg-type]
        bare = chat.render([Message(role=role, content=marks[role]) for role in ROLES], generation=False)  # type: ignore[arg-type]
        turns: dict[str, tuple[str, str]] = {}
        for role in ROLES:
            alone = chat.render([Message(role="user", content="x"), Message(role=role, content=marks[role])], False)  # type: ignore[arg-type]
            user = chat.render([Message(role="user", content="x")], False)
            before, _, behind = alone.removeprefix(user).partition(marks[role])
            turns[role] = (before, behind)
        frame = Frame(turns, whole.removeprefix(bare))
        alike = all(frame.rendered(probe) == chat.render(probe) for probe in probes)
    except TemplateError:  # it refuses a conversation
        return None
    unsafe = any("{{" in text or '"""' in text for pair in (*turns.values(), (frame.prompt, "")) for text in pair)
    return frame if alike and not unsafe else None
