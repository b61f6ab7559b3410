"""A trace as a row of another tool's form, and files of such rows with plain columns that `datasets` loads."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from ponder.core.errors import ConfigurationError
from ponder.core.types import Completion, Json, Message, Trace
from ponder.runs.files import atomic_file
from ponder.runs.journal import encode
from ponder.stages._traces.forms import OURS
from ponder.stages._traces.reading import simplified
from ponder.stages._traces.thinking import TAGS, apart

Reasoning = Literal["inline", "field"]
BATCH = 512
_NAMES = {"system": "system", "user": "human", "assistant": "gpt"}
_LEFT_OUT = {"text", "tokens", "prompt_tokens", "logprobs", "seconds"}


def exported(trace: Trace, form: str, reasoning: Reasoning) -> Json:
    """A trace in a form, with what the form has no place for as JSON text in the column `ponder`.

    Args:
        trace: Any trace.
        form: One of `forms.EXPORTS`.
        reasoning: `inline` leaves the thinking in its tags; `field` gives it a field of its own beside the content.
    """
    problem, text = trace.problem, trace.completion.text
    parts = apart(text) if reasoning == "field" else None
    last: Json = {"role": "assistant", "content": parts.answer if parts else text}
    if reasoning == "field":
        last["reasoning_content"] = parts.thinking if parts else None
    prompt = [_message(message, reasoning) for message in problem.messages]
    return {
        **_columns(form, prompt, last),
        "id": problem.id,
        "task": problem.task,
        "answer": problem.answer if isinstance(problem.answer, str | None) else json.dumps(problem.answer),
        "sampler": trace.sampler,
        "outcome": trace.verdict.outcome.value,
        OURS: json.dumps(_rest(trace, parts.tags if parts else None), ensure_ascii=False),
    }


def write_export(path: Path, rows: Iterable[Json], form: str, reasoning: Reasoning) -> int:
    """Write rows as JSONL or Parquet, by the suffix, in one piece; returns how many."""
    with atomic_file(path) as temporary:
        if path.suffix.lower() == ".parquet":
            return _write_parquet(temporary, iter(rows), form, reasoning)
        with temporary.open("wb") as file:
            return sum(1 for _ in (file.write(encode(row)) for row in rows))


def check_reasoning(form: str, reasoning: str) -> None:
    """Refuse a field for the thinking where the form has none.

    Raises:
        ConfigurationError: If so, or if there is no such way.
    """
    if reasoning not in ("inline", "field"):
        raise ConfigurationError(f"there is no {reasoning!r}", where="--reasoning", fix="choose inline or field")
    if reasoning == "field" and form == "sharegpt":
        raise ConfigurationError(
            "sharegpt has no field for the thinking", where="--reasoning", fix="use inline, or --to messages"
        )


def _columns(form: str, prompt: list[Json], last: Json) -> Json:
    if form == "sharegpt":
        turns = [*prompt, last]
        return {"conversations": [{"from": _NAMES[turn["role"]], "value": turn["content"]} for turn in turns]}
    if form == "messages":
        return {"messages": [*prompt, last]}
    return {"prompt": prompt, "completion": [last]}


def _message(message: Message, reasoning: Reasoning) -> Json:
    row: Json = {"role": message.role, "content": message.content}
    return {**row, "reasoning_content": message.reasoning_content} if reasoning == "field" else row


def _rest(trace: Trace, tags: tuple[str, str] | None) -> Json:
    """Everything of a trace that is not in its conversation."""
    problem = trace.problem
    kept: Json = problem.model_dump(mode="json", exclude={"prompt"})
    told = tuple(Message(role=message.role, content=message.content) for message in problem.messages)
    if simplified(told) != problem.prompt:
        kept["prompt"] = problem.model_dump(mode="json", include={"prompt"})["prompt"]
    completion = trace.completion.model_dump(mode="json", exclude=_LEFT_OUT)
    plain = Completion(text="").model_dump(mode="json", exclude=_LEFT_OUT)
    rest: Json = {
        "problem": kept,
        "completion": {name: value for name, value in completion.items() if value != plain[name]},
        "verdict": trace.verdict.model_dump(mode="json"),
        "parts": trace.parts,
        "sampler": trace.sampler,
    }
    return rest if tags is None or tags == TAGS else {**rest, "tags": list(tags)}


def _write_parquet(path: Path, rows: Iterator[Json], form: str, reasoning: Reasoning) -> int:
    arrow: Any = importlib.import_module("pyarrow")  # slow to import, and needed for Parquet only
    parquet: Any = importlib.import_module("pyarrow.parquet")
    text = arrow.string()
    fields = ["role", "content", *(["reasoning_content"] if reasoning == "field" else [])]
    turns = arrow.list_(arrow.struct([(name, text) for name in fields]))
    spoken = arrow.list_(arrow.struct([("from", text), ("value", text)]))
    columns: dict[str, list[tuple[str, Any]]] = {
        "messages": [("messages", turns)],
        "sharegpt": [("conversations", spoken)],
        "prompt-completion": [("prompt", turns), ("completion", turns)],
    }
    plain = [(name, text) for name in ("id", "task", "answer", "sampler", "outcome", OURS)]
    schema = arrow.schema([*columns[form], *plain])
    count = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as file:
        while batch := list(islice(rows, BATCH)):
            file.write_table(arrow.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count
