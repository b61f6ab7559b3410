"""Whether two models read and write alike: the same tokens, and the same manners."""

from __future__ import annotations

import json
from typing import Any

from jinja2 import TemplateError

from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError
from ponder.core.types import Message, Messages

PROBES: tuple[tuple[Message, ...], ...] = (
    (Message(role="user", content="What is 12 + 7?"),),
    (Message(role="system", content="Be brief."), Message(role="user", content="What is 12 + 7?")),
    (
        Message(role="user", content="What is 12 + 7?"),
        Message(role="assistant", content="The answer is 19."),
        Message(role="user", content="And 8 more?"),
    ),
)
"""Conversations that two chats of equal manners render into the same tokens."""


def same_tokenizer(first: Any, second: Any) -> bool:
    """Whether two fast tokenizers make the same tokens of every text: vocabulary, merges, splitting, special tokens.

    Sizes of padded heads are the models', not the tokenizers': two models may differ in them and share a tokenizer.
    Take the smaller size then (`LocalTeacher(vocabulary=...)`).
    """
    if len(first) != len(second):
        return False
    return _added(first) == _added(second) and all(
        _state(getattr(first.backend_tokenizer, part)) == _state(getattr(second.backend_tokenizer, part))
        for part in ("normalizer", "pre_tokenizer", "model")
    )


def manners_differences(student: Chat, teacher: Chat) -> list[str]:
    """What a teacher with the student's tokenizer would see differently from the student, each in a few words."""
    found: list[str] = []
    for name, probe in zip(("a question", "a system message", "an earlier turn"), PROBES, strict=True):
        if _rendered(student, probe) != _rendered(teacher, probe):
            found.append(f"the chat template renders {name} differently ({student.digest} and {teacher.digest})")
    if student.end_id != teacher.end_id:
        found.append(f"a turn ends with {_name(student, student.end_id)} and {_name(teacher, teacher.end_id)}")
    if student.stop_ids != teacher.stop_ids:
        found.append(f"sampling stops at {_names(student)} and at {_names(teacher)}")
    if (student.think_open, student.think_close) != (teacher.think_open, teacher.think_close):
        found.append("only one has <think> and </think> as single tokens, or they are different ones")
    if student.prompt_opens_thinking != teacher.prompt_opens_thinking:
        opener = "student" if student.prompt_opens_thinking else "teacher"
        found.append(f"only the {opener}'s prompt opens the thought")
    return found


def check_same_manners(student: Chat, teacher: Chat) -> None:
    """Refuse before training to compare log-probabilities of different conversations.

    Raises:
        ConfigurationError: If the two differ in template, end of turn, thinking tags or an opened thought.
    """
    differences = manners_differences(student, teacher)
    if differences:
        raise ConfigurationError(
            "student and teacher share a tokenizer but not the form of a conversation: " + "; ".join(differences),
            where="teacher",
            fix="give the teacher's folder the student's chat template and end of turn, or let the teacher answer in "
            "its own form (a teacher across tokenizers does)",
        )


def _state(part: Any) -> Any:
    """A part of a tokenizer as values that can be compared; the order of keys does not count."""
    return None if part is None else json.loads(part.__getstate__())


def _added(tokenizer: Any) -> dict[int, tuple[Any, ...]]:
    """What decides how special tokens are found in a text."""
    return {
        index: (token.content, token.lstrip, token.rstrip, token.single_word, token.normalized)
        for index, token in tokenizer.added_tokens_decoder.items()
    }


def _rendered(chat: Chat, probe: Messages) -> list[int] | None:
    """Tokens of a conversation, or None where the template refuses or drops a part of it."""
    try:
        return chat.prompt(probe)
    except (TemplateError, ConfigurationError):
        return None


def _name(chat: Chat, token: int) -> str:
    return str(chat.tokenizer.convert_ids_to_tokens(token))


def _names(chat: Chat) -> str:
    return " or ".join(sorted(_name(chat, token) for token in chat.stop_ids))
