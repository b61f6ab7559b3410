"""What comes with a GGUF file: Ollama's template renders as the model's own, and LM Studio finds the file."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from engine_models import chat
from ponder.core.chat import Chat
from ponder.core.types import Message, Messages
from ponder.models.load import load_tokenizer, resolve_model
from runtimes import other_template

pytest.importorskip("gguf")

from ponder.exporters._gguf.beside import PROBES, frame_of, modelfile_text, write_beside
from ponder.exporters.gguf import Gguf

TAG = re.compile(r"\{\{ (.*?) \}\}")


def rendered_by_ollama(template: str, messages: Messages) -> str:
    """Go's templates, as far as these are used: range over messages, if, else if, end, and two fields."""
    found, rest = re.fullmatch(r"\{\{ range \.Messages \}\}(.*)\{\{ end \}\}(.*)", template, re.DOTALL).groups()  # type: ignore[union-attr]
    return "".join(one_message(found, message) for message in messages) + rest


def one_message(body: str, message: Message) -> str:
    """The first branch whose role is the message's."""
    text, taken, done = "", False, False
    for place, piece in enumerate(TAG.split(body)):
        if place % 2 == 0:
            text += piece if taken else ""
        elif asked := re.fullmatch(r'(?:else )?if eq \.Role "(\w+)"', piece):
            taken = not done and asked[1] == message.role
            done = done or taken
        elif piece == ".Content":
            text += message.content if taken else ""
        else:
            assert piece == "end", piece
            taken = False
    return text


def template_of(modelfile: str) -> str:
    return re.search(r'^TEMPLATE """(.*?)"""$', modelfile, re.DOTALL | re.MULTILINE)[1]  # type: ignore[index]


def pocket() -> Chat:
    return Chat(load_tokenizer(resolve_model("pocket-teacher")))


CONVERSATIONS: tuple[Messages, ...] = (
    *PROBES,
    (Message(role="user", content=" {{ .Content }} \"\"\" <|im_end|>\n"),),
    (Message(role="system", content="a"), Message(role="user", content=""), Message(role="assistant", content="b\n\n")),
)  # fmt: skip
LLAMA2_LIKE = (
    "{% for m in messages %}{% if m.role == 'system' %}<s>{{ m.content }}\n\n{% elif m.role == 'user' %}[INST] "
    "{{ m.content }} [/INST]{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}SYSTEM be nice\n{% endif %}{% for m in messages %}{{ m.role }}: "
    "{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
TRIMMED = (
    "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
REFUSING = "{{ raise_exception('no') }}"
QUOTED = (
    '{% for m in messages %}"""{{ m.role }}: {{ m.content }}\n{% endfor %}'
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.mark.parametrize("template", [None, LLAMA2_LIKE])
def test_ollamas_template_renders_as_the_models_own(template: str | None) -> None:
    found = pocket() if template is None else other_template(pocket(), template)
    emitted = template_of(modelfile_text("x.gguf", found))
    for messages in CONVERSATIONS:
        assert rendered_by_ollama(emitted, messages) == found.render(messages)


@pytest.mark.parametrize("template", [DEFAULT_SYSTEM, TRIMMED, REFUSING, QUOTED])
def test_a_template_that_cannot_be_said_is_left_to_the_file_and_that_is_said(template: str) -> None:
    found = other_template(pocket(), template)
    text = modelfile_text("x.gguf", found)
    assert frame_of(found) is None
    assert "TEMPLATE" not in text and "# The chat template cannot be said" in text and "FROM ./x.gguf" in text


def test_the_modelfile_says_where_to_stop_and_how_to_choose() -> None:
    lines = modelfile_text("some model.gguf", pocket()).splitlines()
    assert lines[0] == "FROM ./some model.gguf"
    assert 'PARAMETER stop "<|im_end|>"' in lines and "PARAMETER temperature 0" in lines


def test_lm_studio_finds_the_file_by_publisher_and_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Gguf(form="q8_0", name="tiny")(resolve_model("pocket-base"), tmp_path)
    found = tmp_path / "lmstudio" / "ponder" / "tiny-GGUF" / "tiny-q8_0.gguf"
    assert found.samefile(path) and (tmp_path / "Modelfile-tiny-q8_0").read_text().startswith("FROM ./tiny-q8_0.gguf\n")

    def no_links(*_: object) -> None:
        raise OSError("no links on this disk")

    monkeypatch.setattr(os, "link", no_links)
    write_beside(path, chat(), "tiny")  # again, over what is there
    assert not found.samefile(path) and found.read_bytes() == path.read_bytes()
