"""The fake that ships: answers from a mapping, a function or a file instead of a model.

It runs every path that needs a sampler without weights, and replays responses that were recorded elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path

from ponder.core.errors import ConfigurationError, DataError
from ponder.core.protocols import Sampler, Watch
from ponder.core.types import Completion, Messages, Sampling

Script = Mapping[str, str | Sequence[str]] | Callable[[Messages, int], str]
"""Responses by the last message's text (one, or several that samples take in turn), or a function of
(messages, sample index)."""


ANYTHING = "*"
"""The prompt of the responses to everything that has none of its own: always the same answer, as a baseline."""


class ScriptedSampler:
    """Answers from a script; the same call always gives the same answers.

    Args:
        script: A `Script`, or a JSONL file of rows {"prompt", "response"} or {"prompt", "responses": [...]};
            the prompt `*` answers whatever has no row of its own.
        name: For traces and reports.

    Raises:
        DataError: If a row of the file is something else, or the script holds an empty list of responses.
        ConfigurationError: If the file cannot be read.
    """

    def __init__(self, script: Script | str | PathLike[str], *, name: str = "scripted") -> None:
        """Read the script once."""
        self.name = name
        if callable(script):
            self._answer = script
            return
        source = read_script(Path(script)) if isinstance(script, str | PathLike) else script
        self._responses = {prompt: _listed(prompt, responses) for prompt, responses in source.items()}
        self._answer = self._look_up

    def generate(
        self, prompts: Sequence[Messages], samples: int, sampling: Sampling, watch: Watch | None = None
    ) -> list[list[Completion]]:
        """See `ponder.core.protocols.Sampler`; completions have no tokens, and stop strings are honoured.

        Raises:
            ConfigurationError: If `samples` is below 1.
            DataError: If the script has no answer for a prompt.
        """
        if samples < 1:
            raise ConfigurationError(f"samples is {samples}, and must be at least 1")
        groups = [
            [Completion(text=_cut(self._answer(messages, sample), sampling.stop)) for sample in range(samples)]
            for messages in prompts
        ]
        if watch is not None:
            watch(len(groups) * samples, 0)
        return groups

    def _look_up(self, messages: Messages, sample: int) -> str:
        prompt = messages[-1].content if messages else ""
        responses = self._responses.get(prompt) or self._responses.get(ANYTHING)
        if responses is None:
            raise DataError(
                "the script has no answer to this prompt",
                where=repr(prompt[:200]),
                fix=f'add a row for it, or one for everything else: {{"prompt": "{ANYTHING}", "response": ...}}',
            )
        return responses[sample % len(responses)]


def read_script(path: Path) -> dict[str, list[str]]:
    """Responses by prompt; rows of one prompt add up.

    Raises:
        DataError: If a row is not {"prompt", "response"} or {"prompt", "responses"}.
        ConfigurationError: If the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the script cannot be read: {error}", where=str(path)) from error
    script: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            prompt, responses = _row(line, f"{path}:{number}")
            script.setdefault(prompt, []).extend(responses)
    return script


def _row(line: str, where: str) -> tuple[str, list[str]]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"not JSON: {error}", where=where) from error
    if isinstance(row, dict) and isinstance(prompt := row.get("prompt"), str):
        responses = row.get("responses", [row["response"]] if "response" in row else None)
        if isinstance(responses, list) and responses and all(isinstance(text, str) for text in responses):
            return prompt, responses
    raise DataError(
        "a row of a script has a `prompt` and a `response`, or a list of `responses`",
        where=where,
        fix='{"prompt": "What is 1 + 1?", "response": "The answer is 2."}',
    )


def _listed(prompt: str, responses: str | Sequence[str]) -> list[str]:
    listed = [responses] if isinstance(responses, str) else list(responses)
    if not listed:
        raise DataError("the script has an empty list of responses", where=repr(prompt[:200]))
    return listed


def _cut(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop string."""
    return text[: min((at for mark in stop if mark and (at := text.find(mark)) >= 0), default=len(text))]


plugin: type[Sampler] = ScriptedSampler
