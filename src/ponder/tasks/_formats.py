"""The shapes in which people keep questions with answers, and how to tell them apart.

| format              | columns                                                            |
|---------------------|--------------------------------------------------------------------|
| `qa`                | a question and an answer, under the usual names or those given     |
| `messages`          | `messages`: a list of {role, content}                              |
| `sharegpt`          | `conversations`: a list of {from, value}                           |
| `prompt_completion` | `prompt` and `completion`, each text or messages                   |
| `alpaca`            | `instruction`, `input` (may be empty) and `output`                 |
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple, get_args

from pydantic import JsonValue

from ponder.core.errors import DataError
from ponder.core.types import Json, Message
from ponder.tasks._rows import BadRow, checked_text, kind_of, text_at

Format = Literal["qa", "messages", "sharegpt", "prompt_completion", "alpaca"]

QUESTIONS = ("question", "problem", "query", "prompt", "input")
ANSWERS = (
    "answer",
    "gold",
    "target",
    "final",
    "final_answer",
    "expected",
    "ground_truth",
    "label",
    "solution",
)
_COLUMNS: dict[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "prompt_completion": ("prompt", "completion"),
    "alpaca": ("instruction", "output"),
}
_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}


class Layout(NamedTuple):
    """How the rows of a file are read."""

    format: Format
    question: str | None = None
    """Column of the question, in `qa`."""
    answer: str | None = None
    """Column of the gold answer; None: it is in the last assistant's turn."""

    def __str__(self) -> str:
        """As a person would say it."""
        columns = [f"{name} in {column!r}" for name, column in (("question", self.question), ("answer", self.answer))]
        return ", ".join([self.format, *(text for text in columns if "None" not in text)])


class Asked(NamedTuple):
    """A row as question and answer."""

    prompt: str | tuple[Message, ...]
    answer: JsonValue
    """The cell as it is; None when it is missing."""
    demonstration: str | None = None
    """The assistant's turn, where the row holds one."""


def detect(columns: Collection[str], question: str | None, answer: str | None, where: str) -> Layout:
    """The one format that fits the columns.

    Raises:
        DataError: If none fits or several do; names the columns.
    """
    if question is not None:
        return Layout("qa", question, answer or _only(ANSWERS, columns, "answer", where))
    fits = [name for name, needed in _COLUMNS.items() if set(needed) <= set(columns)]
    claimed = {column for name in fits for column in (*_COLUMNS[name], "input" if name == "alpaca" else "")}
    if [name for name in QUESTIONS if name in columns and name not in claimed] and (
        answer or any(name in columns for name in ANSWERS)
    ):
        fits.append("qa")
    if len(fits) != 1:
        problem = f"could be {' or '.join(fits)}" if fits else "are of no known format"
        raise DataError(
            f"the columns {', '.join(map(repr, sorted(columns)))} {problem}",
            where=where,
            fix=f"set format to one of {', '.join(get_args(Format))}; or name question and answer",
        )
    return layout_of(fits[0], columns, None, answer, where)


def layout_of(name: str, columns: Collection[str], question: str | None, answer: str | None, where: str) -> Layout:
    """The layout of a chosen format; only `qa` has columns to look for.

    Raises:
        DataError: If a column of `qa` is missing, or could be one of several.
    """
    if name != "qa":
        return Layout(name, None, answer)  # type: ignore[arg-type]  # one of the literals above
    question = question or _only(QUESTIONS, columns, "question", where)
    return Layout("qa", question, answer or _only(ANSWERS, columns, "answer", where))


def ask(row: Json, layout: Layout) -> Asked:
    """A row as question and answer.

    Raises:
        BadRow: If it does not have the layout; names the field.
    """
    if layout.format == "qa":
        assert layout.question is not None and layout.answer is not None
        return Asked(text_at(row, layout.question), row.get(layout.answer))
    if layout.format == "alpaca":
        prompt, demonstration = _alpaca(row)
    elif layout.format == "prompt_completion":
        prompt, demonstration = _completed(row)
    else:
        column = _COLUMNS[layout.format][0]
        prompt, demonstration = _conversation(row.get(column), column)
    return Asked(prompt, row.get(layout.answer) if layout.answer else demonstration, demonstration)


def _only(names: Sequence[str], columns: Collection[str], what: str, where: str) -> str:
    found = [name for name in names if name in columns]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(map(repr, found or sorted(columns)))
    raise DataError(
        f"the {what} could be in {listed}" if found else f"no column looks like the {what}: there are {listed}",
        where=where,
        fix=f"name it: {what}: COLUMN",
    )


def _alpaca(row: Json) -> tuple[str, str]:
    instruction, output = text_at(row, "instruction"), text_at(row, "output")
    extra = row.get("input") or ""
    if not isinstance(extra, str):
        raise BadRow(f"the field 'input' is {kind_of(extra)}, not text")
    return (f"{instruction}\n\n{extra}" if extra.strip() else instruction), output


def _completed(row: Json) -> tuple[str | tuple[Message, ...], str]:
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        return checked_text(prompt, "prompt"), checked_text(completion, "completion")
    if not isinstance(prompt, list) or not isinstance(completion, list):
        raise BadRow(f"'prompt' is {kind_of(prompt)}, 'completion' {kind_of(completion)}: want two texts or two lists")
    turns, demonstration = _conversation([*prompt, *completion], "prompt + completion")
    if len(completion) != 1 or demonstration is None:
        raise BadRow("the field 'completion' is not one assistant's turn")
    return turns, demonstration


def _conversation(turns: Any, column: str) -> tuple[tuple[Message, ...], str | None]:
    """The turns before the assistant's last, and that one; None where the conversation ends with the user."""
    if not isinstance(turns, list) or not turns:
        raise BadRow(f"the field {column!r} is {kind_of(turns) if turns else 'empty'}, not a list of turns")
    messages = [_message(turn, f"{column}[{index}]") for index, turn in enumerate(turns)]
    speakers = [message.role for message in messages]
    if "system" in speakers[1:]:
        raise BadRow(f"the field {column!r} has a system turn that is not the first")
    talk = speakers[1:] if speakers[0] == "system" else speakers
    if not talk or any(role != ("user", "assistant")[index % 2] for index, role in enumerate(talk)):
        raise BadRow(f"the turns in {column!r} do not go from user to assistant in turn")
    if talk[-1] == "user":
        return tuple(messages), None
    *before, last = messages
    thought = f"<think>\n{last.reasoning_content}\n</think>\n\n" if last.reasoning_content else ""
    return tuple(before), thought + last.content


def _message(turn: Any, field: str) -> Message:
    if not isinstance(turn, dict):
        raise BadRow(f"the field {field!r} is {kind_of(turn)}, not a turn")
    role_key, content_key = ("from", "value") if "from" in turn else ("role", "content")
    role = _ROLES.get(str(turn.get(role_key)))
    if role is None:
        raise BadRow(f"the field '{field}.{role_key}' is missing or not a known role")
    content = checked_text(turn.get(content_key), f"{field}.{content_key}")
    thought = turn.get("reasoning_content")
    if thought is not None and (role != "assistant" or not isinstance(thought, str)):
        raise BadRow(f"the field '{field}.reasoning_content' is not an assistant's text")
    return Message.model_validate({"role": role, "content": content, "reasoning_content": thought or None})
