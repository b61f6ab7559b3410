"""What a model that is to be deployed may take at most."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from ponder.core.errors import ConfigurationError, ResourceError
from ponder.core.types import Record
from ponder.report.evaluations import read_object, stage_folders

UNITS = {
    "": 1.0,
    **{f"{prefix}b": 1000.0**power for power, prefix in enumerate(("", "k", "m", "g", "t"))},
    **{f"{prefix}ib": 1024.0**power for power, prefix in enumerate(("k", "m", "g", "t"), 1)},
}
IDENTITY = "stage.json"


def amount_of_memory(text: str) -> int:
    """Bytes of `2000000`, `2 GB` (of 1,000) or `2 GiB` (of 1,024).

    Raises:
        ValueError: If it is no amount of memory, or none at all.

    Example:
        >>> amount_of_memory("2 GB"), amount_of_memory("1.5GiB")
        (2000000000, 1610612736)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?i?b|)", text.strip().lower())
    size = int(float(match[1]) * UNITS[match[2]]) if match is not None and match[2] in UNITS else 0
    if size < 1:
        raise ValueError(f"{text[:40]!r} is not an amount of memory: write 512 MB or 2 GiB")
    return size


def _checked(value: int | str | None) -> int | str | None:
    """As written; what is stored with a run is what its recipe says."""
    if isinstance(value, str):
        amount_of_memory(value)
    return value


class Limits(Record):
    """Bounds; None is no bound."""

    memory: Annotated[Annotated[int, Field(gt=0)] | str | None, AfterValidator(_checked)] = None
    """Peak memory while it answers, in bytes or as text such as `2 GB`."""
    seconds: float | None = Field(default=None, gt=0.0)
    """For an answer, batched as it was measured."""
    joules: float | None = Field(default=None, gt=0.0)
    """For an answer."""
    money: float | None = Field(default=None, gt=0.0)
    """For an answer, in the currency of its price."""

    @property
    def given(self) -> bool:
        """Whether there is any bound."""
        return bool(self.bounds)

    @property
    def bounds(self) -> dict[str, float]:
        """Every bound that is given, memory in bytes."""
        given = self.model_dump(exclude_none=True)
        if isinstance(memory := given.get("memory"), str):
            given["memory"] = amount_of_memory(memory)
        return given


NO_LIMITS = Limits()


def limits_from(memory: str | None, seconds: float | None, joules: float | None, money: float | None) -> Limits | None:
    """Limits as flags give them; None when there is none.

    Raises:
        ConfigurationError: If one cannot be used.
    """
    given = {"memory": memory, "seconds": seconds, "joules": joules, "money": money}
    try:
        limits = Limits.model_validate({key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(
            first["msg"].removeprefix("Value error, "), where=f"--max-{first['loc'][0]}"
        ) from error
    return limits if limits.given else None


def limits_of_run(run_folder: Path) -> Limits:
    """Those that the run's own report was given, else none."""
    for folder in stage_folders(run_folder):
        try:
            settings = (read_object(folder / IDENTITY) or {}).get("settings") or {}
            limits = Limits.model_validate(settings["limits"])
        except (ResourceError, ValidationError, KeyError, TypeError):
            continue
        if limits.given:
            return limits
    return NO_LIMITS
