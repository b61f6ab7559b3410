"""One row of a foreign file as the responses that it holds: a pure function of the row, its form and the gold's column.

A row that does not have its form is refused with a reason that names fields and quotes nothing. Whether a response is
right is never taken from the file: what a set claims is kept beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import JsonValue, ValidationError

from ponder.core.answers import THINK_CLOSE, worked_solution
from ponder.core.types import Completion, Finish, Json, Message, Problem
from ponder.stages._traces.forms import OURS
from ponder.stages._traces.thinking import TAGS, normal, together
from ponder.tasks._formats import Layout, ask
from ponder.tasks._rows import BadRow, checked_text, kind_of, text_at
from ponder.tasks._selection import Draft

FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Names of a separate field for the thinking, in the order of preference."""
IDS = ("id", "uuid", "problem_id", "question_id", "idx")
_LAYOUTS: dict[str, Any] = {"messages": "messages", "sharegpt": "sharegpt", "prompt-completion": "prompt_completion"}


class Response(NamedTuple):
    """One response of a row, before it is judged."""

    problem: Problem
    completion: Completion
    sampler: str = ""
    claimed: bool | None = None
    """Whether the set says that it is right."""
    parts: Mapping[str, float] = MappingProxyType({})
    ours: bool = False
    """Whether Ponder exported it: then the problem is whole, and its verifier knows whether it can be judged."""


def responses(row: Json, form: str, gold: str | None, task: str, line: int) -> list[Response]:
    """Every response of a row.

    Args:
        row: As it was read.
        form: One of `forms.FORMS`.
        gold: Column of the gold answer.
        task: Name of the task that the problems belong to.
        line: Of the row, for problems that have no other name.

    Raises:
        BadRow: If it does not have the form.
    """
    if isinstance(row.get(OURS), str) and form in _LAYOUTS:
        return [_returned(row, form, line)]
    answer = _gold(row.get(gold)) if gold is not None else None
    if form == "openr1":
        problem = _problem(text_at(row, "problem"), answer, row, task, line)
        return list(_generations(row, problem))
    if form in ("s1k", "s1k-1.1"):
        problem = _problem(text_at(row, "question"), answer, row, task, line)
        return [_attempt(row, problem, form)]
    prompt, text = _conversation(row, form)
    return [_response(_problem(prompt, answer, row, task, line), text)]


def _conversation(row: Json, form: str) -> tuple[str | tuple[Message, ...], str]:
    """Prompt and response of a general form."""
    row = _prepared(row, form)
    if form == "alpaca":
        asked = ask(row, Layout("alpaca"))
        prompt = _with_history(asked.prompt, row)
    else:
        asked = ask(row, Layout(_LAYOUTS[form]))
        prompt = asked.prompt
    if asked.demonstration is None:
        raise BadRow("the conversation ends with the user: there is no response")
    return simplified(prompt), _with_thinking(asked.demonstration, row)


def simplified(prompt: str | tuple[Message, ...]) -> str | tuple[Message, ...]:
    """A conversation of a single user's turn as its text."""
    if not isinstance(prompt, str) and len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].content
    return prompt


def _prepared(row: Json, form: str) -> Json:
    """The row with one name for a turn's thinking, and with its system text as a turn."""
    columns = {"messages": ("messages",), "sharegpt": ("conversations",), "prompt-completion": ("prompt", "completion")}
    changed = dict(row)
    for column in columns.get(form, ()):
        if isinstance(row.get(column), list):
            changed[column] = [_turn(turn) for turn in row[column]]
    system = row.get("system")
    turns = changed.get("conversations") if form == "sharegpt" else None
    if isinstance(turns, list) and isinstance(system, str) and system.strip():
        changed["conversations"] = [{"from": "system", "value": system}, *turns]
    return changed


def _turn(turn: Any) -> Any:
    if not isinstance(turn, dict):
        return turn
    kept = {key: value for key, value in turn.items() if key not in FIELDS}
    thought = next((turn[name] for name in FIELDS if turn.get(name)), None)
    return kept if thought is None else {**kept, FIELDS[0]: thought}


def _with_history(prompt: str | tuple[Message, ...], row: Json) -> str | tuple[Message, ...]:
    """An alpaca prompt behind its system text and its earlier rounds."""
    turns: list[Message] = []
    system, history = row.get("system"), row.get("history") or []
    if isinstance(system, str) and system.strip():
        turns.append(Message(role="system", content=system))
    if not isinstance(history, list):
        raise BadRow(f"the field 'history' is {kind_of(history)}, not a list of rounds")
    for number, said in enumerate(history):
        if not isinstance(said, list) or len(said) != 2:
            raise BadRow(f"the field 'history[{number}]' is not a question and its answer")
        turns.append(Message(role="user", content=checked_text(said[0], f"history[{number}][0]")))
        turns.append(Message(role="assistant", content=checked_text(said[1], f"history[{number}][1]")))
    if not turns or not isinstance(prompt, str):
        return prompt
    return (*turns, Message(role="user", content=prompt))


def _with_thinking(text: str, row: Json) -> str:
    """The response with the thinking that stands in a column of its own."""
    thought = next((row[name] for name in FIELDS if row.get(name)), None)
    if thought is None or THINK_CLOSE in text:
        return text
    return together(checked_text(thought, "reasoning").strip(), text)


def _generations(row: Json, problem: Problem) -> Iterator[Response]:
    """The responses of an OpenR1 row; one that did not end is truncated."""
    texts = row.get("generations")
    if not isinstance(texts, list) or not texts:
        raise BadRow(f"the field 'generations' is {kind_of(texts) if texts else 'empty'}, not a list of responses")
    for number, text in enumerate(texts):
        claimed = _at(row.get("correctness_math_verify"), number)
        cut = _at(row.get("is_reasoning_complete"), number) is False
        cut = cut or _at(row.get("finish_reasons"), number) == "length"
        response = _response(problem, checked_text(text, f"generations[{number}]"), cut=cut)
        yield response._replace(claimed=claimed if isinstance(claimed, bool) else None)


def _attempt(row: Json, problem: Problem, form: str) -> Response:
    thought, attempt = "thinking_trajectories", "attempt"
    if form == "s1k-1.1":
        thought, attempt = "deepseek_thinking_trajectory", "deepseek_attempt"
    thinking = row.get(thought)
    if isinstance(thinking, list):
        thinking = thinking[0] if thinking else None
    text = together(checked_text(thinking, thought).strip(), text_at(row, attempt))
    return _response(problem, text)


def _response(problem: Problem, text: str, *, cut: bool = False) -> Response:
    changed = normal(text)
    finish = Finish.LENGTH if cut else Finish.STOP
    return Response(problem, Completion(text=changed, finish=finish, raw=None if changed == text else text))


def _problem(prompt: str | tuple[Message, ...], answer: JsonValue, row: Json, task: str, line: int) -> Problem:
    """A problem that is named by its question, so that several responses to it are one problem's."""
    own = next((str(row[name])[:200] for name in IDS if isinstance(row.get(name), str | int)), None)
    key = Draft(line, prompt, answer, None, {}).key
    meta: Json = {"skill": task, **({"source_id": own} if own is not None else {})}
    return Problem(id=f"{task}-{key:016x}", task=task, prompt=prompt, answer=answer, meta=meta)


def _gold(cell: Any) -> JsonValue:
    """The gold answer in a cell: of a worked solution, what it marks as its answer."""
    if not isinstance(cell, str):
        return cell
    if not cell.strip():
        return None
    found = worked_solution(cell).answer
    return found.text if found.reason == "marked" else cell.strip()


def _at(values: Any, place: int) -> Any:
    return values[place] if isinstance(values, list) and place < len(values) else None


def _returned(row: Json, form: str, line: int) -> Response:
    """A row that Ponder exported: the conversation as it is in the row now, all else as it was."""
    try:
        ours = json.loads(row[OURS])
        prompt, text = _conversation(row, form)
        if (tags := ours.get("tags")) is not None:
            text = text.removeprefix(TAGS[0])
            thinking, _, answer = text.partition(TAGS[1])
            text = together(thinking, answer, (tags[0], tags[1]))
        problem = Problem.model_validate({"prompt": prompt, **ours["problem"]})
        completion = Completion.model_validate({**ours["completion"], "text": text})
        parts = {str(name): float(value) for name, value in ours.get("parts", {}).items()}
        return Response(problem, completion, str(ours.get("sampler", "")), None, parts, ours=True)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, ValidationError) as error:
        raise BadRow(f"the column {OURS!r} is not what an export wrote there") from error
