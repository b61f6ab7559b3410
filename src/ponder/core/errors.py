"""What Ponder raises at a user: what happened, where, and how to fix it, with an exit code.

PonderError                      1  failed check
├── Alarm                        1  a run paused itself, and can be told to go on
├── UnloadableError              1  an engine cannot load a model
├── ConfigurationError           2  usage or configuration (also a ValueError)
│   └── DataError                2  a row or a file that cannot be used as it is (also a ValueError)
├── ResourceError                3  something missing or blocked: file, package, disk, lock
└── Interrupted                  4  stopped, and the same command resumes
"""

from __future__ import annotations

from typing import ClassVar


class PonderError(Exception):
    """A failure that a user can act on.

    Args:
        what: What happened, in one sentence.
        where: The file, row, key or stage it happened at.
        fix: What the user can do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        """Keep the three parts apart so that a machine can read them too."""
        super().__init__(what, where, fix)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        """Render as up to three lines: what, where, fix."""
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)


class ConfigurationError(PonderError, ValueError):
    """A key, value, flag or combination that cannot be run."""

    exit_code: ClassVar[int] = 2


class DataError(ConfigurationError):
    """A data file or row that does not say what it should."""


class ResourceError(PonderError):
    """A file, package, device, lock or space that is missing or blocked."""

    exit_code: ClassVar[int] = 3


class UnloadableError(PonderError):
    """An engine was there and could not load a model that it should."""


class Alarm(PonderError):
    """A run paused itself because its rewards look wrong; what it learnt before is saved.

    Args:
        what: Which wires tripped, with figures.
        where: The file that holds the samples.
        shown: The samples as text for a terminal: a user's own data, so never logged.
        stage: Name of the stage that paused.
        wires: Names of the settings under `tripwires` that tripped.
        next_step: The step that the run acknowledges up to, to go on.
    """

    def __init__(
        self, what: str, *, where: str, shown: str, stage: str, wires: tuple[str, ...], next_step: int
    ) -> None:
        """Say how to go on in terms of settings; the command line knows the whole command."""
        super().__init__(
            what,
            where=where,
            fix=f"set tripwires.acknowledged to {next_step} to go on, or tripwires.{wires[0]} to off",
        )
        self.shown, self.stage, self.wires, self.next_step = shown, stage, wires, next_step


class Interrupted(PonderError):
    """The run was asked to stop; running the same command again resumes it."""

    exit_code: ClassVar[int] = 4
