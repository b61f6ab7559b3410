"""The chat template as llama.cpp is to render it: the same text, without what only training needs."""

from __future__ import annotations

import re

from jinja2 import TemplateError

from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError
from ponder.core.types import Json

_MARK = re.compile(r"\{%(-?)\s*(?:end)?generation\s*(-?)%\}")
"""Tags that mark what is trained on; only transformers knows them."""
_USER: Json = {"role": "user", "content": " Two words.\n"}
_SYSTEM: Json = {"role": "system", "content": "Be brief."}
_ANSWER: Json = {"role": "assistant", "content": "It is 3."}
_THOUGHT: Json = _ANSWER | {"reasoning_content": "1 + 2\nis 3"}
PROBES: tuple[list[Json], ...] = (
    [_USER], [_SYSTEM, _USER], [_USER, _ANSWER, _USER], [_SYSTEM, _USER, _THOUGHT, _USER], [_USER, _ANSWER],
)  # fmt: skip
"""Conversations that both templates must render alike."""


def exported_template(chat: Chat) -> str:
    """The template of a model for llama.cpp.

    `{% generation %}` becomes an empty expression that trims the same space around it.

    Raises:
        ConfigurationError: If that would change what a conversation looks like.
    """
    template = _MARK.sub(lambda mark: f"{{{{{mark[1]} '' {mark[2]}}}}}", chat.template)
    for probe in PROBES:
        for generation in (True, False):
            if _rendered(chat, template, probe, generation) != _rendered(chat, chat.template, probe, generation):
                raise ConfigurationError("the chat template changes when its training marks are taken out")
    return template


def _rendered(chat: Chat, template: str, messages: list[Json], generation: bool) -> str:
    try:
        return chat.tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=generation
        )
    except TemplateError as error:  # a template may refuse a conversation; the other must then refuse it too
        return f"refused: {type(error).__name__}"
