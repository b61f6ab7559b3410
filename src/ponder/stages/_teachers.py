"""Teachers as a recipe names them, under which label their traces are stored, and how they are opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from ponder.backends.local import open_sampler
from ponder.core.errors import ConfigurationError, ResourceError
from ponder.core.protocols import Sampler, Watch
from ponder.core.types import Caps, Completion, Json, Messages, Problem, Record, Sampling
from ponder.measure.terms import UNKNOWN, Terms, terms_of_folder
from ponder.models.load import resolve_model

SOLUTIONS = "solutions"
"""As a model's name: the task's own worked solutions are the teacher."""
EVERYBODY = "*"
"""As a label under `terms`: every teacher that is not named."""


def _distinct(value: str | tuple[str, ...] | dict[str, str]) -> str | tuple[str, ...] | dict[str, str]:
    names = [value] if isinstance(value, str) else list(value)
    if not names or not all(names):
        raise ValueError("name at least one teacher")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"the teacher {twice!r} is named twice; give labels: {{LABEL: MODEL, ...}}")
    return value


Teachers = Annotated[str | tuple[str, ...] | dict[str, str], AfterValidator(_distinct)]
"""One teacher or several: `pocket-teacher`, `[a, b]`, or `{LABEL: MODEL, ...}`."""


def labelled(teachers: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Teachers by the label that their traces carry: their own name where none is given."""
    if isinstance(teachers, Mapping):
        return dict(teachers)
    return {name: name for name in ([teachers] if isinstance(teachers, str) else teachers)}


def is_served(source: str) -> bool:
    """Whether a model is asked over a wire, for money, instead of being run here."""
    return source.partition(":")[0] == "openai" and ":" in source


def open_teacher(source: str, problems: Sequence[Problem], purchases: Path, caps: Caps) -> Sampler:
    """A sampler over a teacher; the worked solutions of the problems answer for `solutions`."""
    return Solutions(problems) if source == SOLUTIONS else open_sampler(source, purchases=purchases, caps=caps)


def terms_of(label: str, source: str, given: Mapping[str, Terms]) -> Terms:
    """A teacher's terms: as the settings say, else as its folder says, else unknown."""
    if (said := given.get(label, given.get(EVERYBODY))) is not None:
        return said.model_copy(update={"source": said.source or "settings"})
    if source == SOLUTIONS:
        return Terms(note="worked solutions that came with the problems: the terms of their data apply")
    if is_served(source):
        return Terms(note="the terms of the service apply: set them under `terms`")
    try:
        return terms_of_folder(resolve_model(source))
    except (ConfigurationError, ResourceError):  # a scripted engine has no folder
        return UNKNOWN


def account_of(sampler: Sampler) -> Json:
    """What a served teacher used up over all attempts, and how its server behaved; nothing of other teachers."""
    account: Json = {}
    for name in ("totals", "notes"):
        told: Any = getattr(sampler, name, None)
        if told is not None:
            account[name] = told.model_dump(mode="json") if isinstance(told, Record) else told
    return account


class Solutions:
    """A sampler that answers with the worked solutions that the task wrote."""

    name = SOLUTIONS

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Look the solutions up.

        Raises:
            ConfigurationError: If a problem has none.
        """
        self._solutions: dict[Any, Any] = {p.messages: p.meta.get("solution") for p in problems}
        missing = next((p for p in problems if not isinstance(p.meta.get("solution"), str)), None)
        if missing is not None:
            raise ConfigurationError(
                "a problem has no worked solution to learn from",
                where=f"{missing.task}, problem {missing.id}",
                fix="name a teacher model, or a task whose rows carry solutions",
            )

    def generate(
        self, prompts: Sequence[Messages], samples: int, sampling: Sampling, watch: Watch | None = None
    ) -> list[list[Completion]]:
        """See `ponder.core.protocols.Sampler`; the same solution for every sample."""
        return [[Completion(text=str(self._solutions[tuple(p)]))] * samples for p in prompts]
