"""The forms in which other tools and published sets keep traces, and how a file's form is recognised.

| form                | columns                                                                                  |
|---------------------|------------------------------------------------------------------------------------------|
| `messages`          | `messages`: a list of {role, content[, reasoning_content]}                               |
| `sharegpt`          | `conversations`: a list of {from, value}, and perhaps `system`; also OpenThoughts        |
| `prompt-completion` | `prompt` and `completion`, each text or messages                                         |
| `alpaca`            | `instruction`, `input` (may be empty), `output`, and perhaps `system` and `history`      |
| `openr1`            | `problem` and `generations`, with `correctness_math_verify` beside them: OpenR1-Math     |
| `s1k`               | `question`, `thinking_trajectories` and `attempt`: s1K                                   |
| `s1k-1.1`           | `question`, `deepseek_thinking_trajectory` and `deepseek_attempt`: s1K-1.1               |
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

from ponder.core.errors import ConfigurationError, DataError
from ponder.tasks._formats import ANSWERS

Form = Literal["messages", "sharegpt", "prompt-completion", "alpaca", "openr1", "s1k", "s1k-1.1"]
ExportForm = Literal["messages", "sharegpt", "prompt-completion"]
FORMS: tuple[str, ...] = get_args(Form)
EXPORTS: tuple[str, ...] = get_args(ExportForm)
COLUMNS: dict[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "prompt-completion": ("prompt", "completion"),
    "alpaca": ("instruction", "output"),
    "openr1": ("problem", "generations"),
    "s1k": ("question", "thinking_trajectories", "attempt"),
    "s1k-1.1": ("question", "deepseek_thinking_trajectory", "deepseek_attempt"),
}
PUBLISHED = ("openr1", "s1k", "s1k-1.1")
"""Their columns are more telling than those of a general form, which some of them hold as well."""
GOLD = {"openr1": "answer", "s1k": "solution", "s1k-1.1": "solution"}
NO_GOLD = "none"
"""In place of a column: the file holds no gold answer."""
OURS = "ponder"
"""Column of an export that holds what the form has no place for."""


def detected(columns: Collection[str], where: str) -> str:
    """The one form that fits the columns.

    Raises:
        DataError: If none fits or several do; names the columns.
    """
    fits = [name for name, needed in COLUMNS.items() if set(needed) <= set(columns)]
    known = [name for name in fits if name in PUBLISHED]
    if len(known) == 1:
        return known[0]
    if len(fits) == 1:
        return fits[0]
    problem = f"could be {' or '.join(fits)}" if fits else "are of no known form"
    raise DataError(
        f"the columns {', '.join(map(repr, sorted(columns)))} {problem}",
        where=where,
        fix=f"name the form: --from {' | '.join(FORMS)}",
    )


def checked_form(name: str, allowed: Collection[str], flag: str) -> str:
    """A form by name.

    Raises:
        ConfigurationError: If there is no such form.
    """
    if name not in allowed:
        raise ConfigurationError(f"there is no form {name!r}", where=flag, fix=f"choose one of: {', '.join(allowed)}")
    return name


def gold_column(form: str, columns: Collection[str], given: str | None, where: str) -> str | None:
    """The column of the gold answer; None when the file has none.

    Raises:
        DataError: If the named column is missing, or several could be it.
    """
    if given == NO_GOLD:
        return None
    if given is not None:
        if given not in columns:
            listed = ", ".join(map(repr, sorted(columns)))
            raise DataError(f"there is no column {given!r}", where=where, fix=f"the columns are {listed}")
        return given
    if GOLD.get(form) in columns:
        return GOLD[form]
    found = [name for name in ANSWERS if name in columns and name not in COLUMNS[form]]
    if len(found) > 1:
        raise DataError(
            f"the gold answer could be in {', '.join(map(repr, found))}",
            where=where,
            fix=f"name it: --answer COLUMN, or --answer {NO_GOLD}",
        )
    return found[0] if found else None
