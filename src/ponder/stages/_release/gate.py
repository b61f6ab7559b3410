"""Asks one artefact everything, beside the trained model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ponder.backends.local import open_runtime
from ponder.core.chat import Chat
from ponder.core.errors import DataError, UnloadableError
from ponder.core.protocols import Exporter, Inspector, Teacher
from ponder.core.types import Json, Trace
from ponder.measure.release import Bounds, Finding, Judged
from ponder.stages._release.behaviour import Answered, behaviour_findings, worst_traces
from ponder.stages._release.candidates import Candidate, bytes_of, digest_of_artefact
from ponder.stages._release.expectations import expectation_finding, held_out
from ponder.stages._release.likeness import prompt_findings, tokenizer_finding


@dataclass(frozen=True, slots=True)
class Trained:
    """The model that the artefacts are compared with."""

    folder: Path
    chat: Chat
    teacher: Teacher
    answered: Answered
    texts: tuple[str, ...]
    bounds: Bounds
    tokens: int
    """Of held-out answers along which expectations are compared."""


def judge_artefact(
    trained: Trained, candidate: Candidate, path: Path, exporter: Exporter, answers: Sequence[Trace], speed: Json
) -> tuple[Judged, list[Json]]:
    """Every finding about an artefact, and its worst traces.

    Args:
        trained: The model that it should behave as.
        candidate: What it is.
        path: Where it lies.
        exporter: That wrote it.
        answers: Its own, to the same problems as the trained model's.
        speed: As it was measured.
    """
    answered = Answered.of(answers)
    findings = [*stored_findings(trained.folder, path, exporter), *_read(trained, path)]
    findings += behaviour_findings(trained.answered, answered, trained.bounds)
    findings += list(_limits(trained.bounds, bytes_of(path), speed))
    return judged_by(findings, candidate, path, speed), worst_traces(trained.answered, answered)


def judged_by(findings: Sequence[Finding], candidate: Candidate, path: Path, speed: Json) -> Judged:
    """The record of an artefact with what was found."""
    return Judged(
        form=candidate.form,
        file=path.name,
        sha256=digest_of_artefact(path),
        bytes=bytes_of(path),
        passed=all(finding.passed is not False for finding in findings),
        findings=tuple(findings),
        speed=speed,
    )


def opening_finding(path: Path) -> Finding | None:
    """Why an artefact's engine cannot load it; None when it can.

    Raises:
        ResourceError: If the engine itself is not here.
    """
    try:
        open_runtime(path).close()
    except DataError as error:
        return Finding(name="loading", passed=False, text=str(error))
    except UnloadableError as error:
        return Finding(name="loading", passed=False, text=error.what)
    return None


def stored_findings(model: Path, path: Path, exporter: Exporter) -> list[Finding]:
    """What can be seen without running it."""
    if not isinstance(exporter, Inspector):
        return [Finding(name="weights", passed=None, text="this form is not read back")]
    found = [Finding(name=name, passed=False, text=text) for name, text in exporter.differences(model, path)]
    return found or [Finding(name="weights", passed=True, text="nothing stored was found to differ from the model")]


def _read(trained: Trained, path: Path) -> Iterator[Finding]:
    """What the runtime makes of texts, conversations and answers."""
    runtime = open_runtime(path)
    try:
        yield tokenizer_finding(trained.chat, runtime, trained.texts, trained.bounds)
        yield from prompt_findings(trained.chat, runtime)
        traces = held_out(trained.answered.traces, trained.chat, trained.tokens, runtime.positions)
        yield expectation_finding(trained.teacher, runtime, traces, trained.bounds)
    finally:
        runtime.close()


def _limits(bounds: Bounds, size: int, speed: Json) -> Iterator[Finding]:
    """What its user has room for."""
    if bounds.bytes is not None:
        yield Finding(name="size", passed=size <= bounds.bytes, text=f"{size:,} bytes of at most {bounds.bytes:,}")
    memory, rate = speed.get("memory_bytes"), speed.get("tokens_per_second")
    if bounds.memory_bytes is not None:
        known = memory is not None and memory <= bounds.memory_bytes
        yield Finding(name="memory", passed=known, text=f"{memory or 0:,} bytes of at most {bounds.memory_bytes:,}")
    if bounds.tokens_per_second is not None:
        fast = rate is not None and rate >= bounds.tokens_per_second
        text = f"{rate or 0:.0f} tokens/s of at least {bounds.tokens_per_second:.0f}"
        yield Finding(name="speed", passed=fast, text=text)
