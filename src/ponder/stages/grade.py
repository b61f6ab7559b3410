"""Measures a student on traces: how often it solves each problem itself, and how unlikely it finds each response.

Both numbers are written onto the traces, where `select` reads them. Problems are sampled and traces are scored in
fixed chunks that are journalled: a run that was killed repeats at most one of them and ends with the same numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from ponder.backends.local import model_parameters, open_sampler
from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError, PonderError
from ponder.core.protocols import Task
from ponder.core.seeds import derive_seed
from ponder.core.types import Json, Outcome, Problem, Sampling, Trace
from ponder.engines.local import LocalReference
from ponder.measure.stats import clustered_rate
from ponder.models.load import load_model
from ponder.runs.interrupt import raise_if_stopped
from ponder.runs.journal import Journal
from ponder.runs.store import read_rows
from ponder.stages._estimate import sampling_estimate
from ponder.stages._fitting import fitting
from ponder.stages._outlook import NOTHING
from ponder.stages._rounds import Rounds
from ponder.stages._stage import Context, Estimate, Stage
from ponder.stages._tasks import TaskChoices, open_tasks, single_turn, verifiers_of
from ponder.stages._traces.choosing import LOSS, PASS_RATE, question_of, words_of
from ponder.stages._traces.files import gathered_terms, read_traces, replace_rows, row_of, traces_file

TYPICAL_TOKENS = 60
"""Guess of a completion's length for `plan`."""
SCORED = 64
"""Traces that are scored and journalled together."""

ProblemKey = tuple[str, str, str]


class Grade(Stage):
    """Writes the student's pass rate and mean loss onto every trace."""

    inputs: ClassVar[tuple[str, ...]] = ("model", "traces")

    model: str
    """The student."""
    traces: str
    """An earlier stage, its folder, or a file of traces (JSONL or Parquet)."""
    tasks: TaskChoices = ()
    """Tasks whose verifiers judge the student, with the settings they had for the traces; without any, those of the
    run's other stages, and else each task by the name that its problems carry."""
    samples: int = Field(default=4, ge=0)
    """Of every problem; 0 measures no pass rate."""
    temperature: float = Field(default=1.0, ge=0.0, le=100.0)
    max_new_tokens: int = Field(default=512, ge=1)
    loss: bool = True
    """Measure the mean loss; a served student cannot tell it."""
    max_tokens: int = Field(default=4096, ge=8)
    """Longer traces get no loss, and are counted."""
    chunk: int = Field(default=128, ge=1)
    """Problems that are sampled and journalled together."""

    def __call__(self, context: Context) -> Json:
        """Write `traces.parquet` with `pass_rate` and `student_loss` among the parts of every trace.

        Raises:
            PonderError: If there are no traces.
        """
        path = traces_file(Path(context.artefact(self.traces, "traces.parquet")))
        traces = list(read_traces(path))
        if not traces:
            raise PonderError("0 traces to grade: the file is empty", where=str(path))
        student = context.artefact(self.model, "model")
        problems = {key_of(trace.problem): trace.problem for trace in traces}
        solved = self._solve(context, student, problems) if self.samples else {}
        losses = self._score(context, student, traces) if self.loss else [None] * len(traces)
        graded = [
            _graded(trace, solved.get(key_of(trace.problem)), loss) for trace, loss in zip(traces, losses, strict=True)
        ]
        terms = gathered_terms([path], traces)
        context.folder.write_json("terms", terms)
        replace_rows(context.folder.journal("traces"), map(row_of, graded))
        counts = {"traces": len(traces), "problems": len(problems)}
        return {**counts, **_pass_summary(solved), **_loss_summary(graded, self.loss), "terms": terms}

    def estimate(self, context: Context) -> Estimate:
        """Counts problems where the traces exist already; lengths are guessed."""
        path = Path(context.artefact(self.traces, "traces.parquet")).expanduser()
        path = path / "traces.parquet" if path.is_dir() else path
        known = path.exists()
        leaves = context.outlook.leaves.get(self.traces, NOTHING)
        guessed = 2000 if leaves.traces is None else round(leaves.traces.expected)
        rows = sum(1 for _ in read_rows(path)) if known else guessed
        tokens = rows * (self.samples * min(self.max_new_tokens, TYPICAL_TOKENS) + 2 * TYPICAL_TOKENS * self.loss)
        note = "every trace counted as a problem" if known else f"{rows:,} traces expected: they do not exist yet"
        found = sampling_estimate(rows, tokens, model_parameters(context.artefact(self.model, "model")), note)
        return replace(found, leaves=leaves)

    def _solve(
        self, context: Context, student: str, problems: dict[ProblemKey, Problem]
    ) -> dict[ProblemKey, tuple[int, int]]:
        """(right, judged) samples of every problem."""
        journal, keys = context.folder.journal("student"), list(problems)
        done = _whole_chunks(journal, self.chunk, len(keys))
        if done < len(keys):
            tasks = self._tasks(context, {problem.task for problem in problems.values()})
            verifiers = verifiers_of(tasks)
            seed = derive_seed(context.seed, "grade")
            sampling = Sampling(temperature=self.temperature, max_new_tokens=self.max_new_tokens, seed=seed)
            opened = open_sampler(student, purchases=context.folder.path / "purchases")
            sampler = fitting(opened, list(problems.values()), sampling)
            with context.log.progress("grade", total=len(keys), unit="problems") as progress:
                for start in range(done, len(keys), self.chunk):
                    raise_if_stopped()
                    chunk = [problems[key] for key in keys[start : start + self.chunk]]
                    groups = Rounds(sampling, self.samples).draw(sampler, chunk, verifiers, student)
                    journal.append_all([_solved_row(p, group) for p, group in zip(chunk, groups, strict=True)])
                    progress.update(start + len(chunk))
        return {key: (row["right"], row["judged"]) for key, row in zip(keys, journal.rows(), strict=True)}

    def _score(self, context: Context, student: str, traces: Sequence[Trace]) -> list[float | None]:
        """Mean loss of every response, nats per token."""
        journal = context.folder.journal("losses")
        done = _whole_chunks(journal, SCORED, len(traces))
        if done < len(traces):
            if student.startswith(("openai:", "scripted:")):
                raise ConfigurationError(
                    "this student cannot say how likely it finds a text",
                    where=f"model: {student.partition(':')[0]}",
                    fix="set loss: false, or name a model of this machine",
                )
            loaded = load_model(student)
            reference = LocalReference(loaded.model)
            positions: Any = getattr(loaded.model.config, "max_position_embeddings", None)
            limit = min(self.max_tokens, positions or self.max_tokens)
            with context.log.progress("score", total=len(traces), unit="traces") as progress:
                for start in range(done, len(traces), SCORED):
                    raise_if_stopped()
                    chunk = traces[start : start + SCORED]
                    losses = mean_losses(reference, [token_ids(trace, loaded.chat) for trace in chunk], limit)
                    journal.append_all([{"loss": loss} for loss in losses])
                    progress.update(start + len(chunk))
        return [row["loss"] for row in journal.rows()]

    def _tasks(self, context: Context, wanted: set[str]) -> dict[str, Task]:
        """The tasks that the traces name, opened.

        Raises:
            ConfigurationError: If one cannot be opened without its settings.
        """
        found = open_tasks(self.tasks)
        if not self.tasks:
            for choice in _choices(context.stages()):
                found = {**open_tasks([choice]), **found}
        try:
            for name in sorted(wanted - set(found)):
                found |= open_tasks([name])
        except ConfigurationError as error:
            raise ConfigurationError(
                f"the verifier of these traces is not known: {error.what}",
                where=error.where or "tasks",
                fix="name the tasks under `tasks`, with their settings, as they were when the traces were made",
            ) from error
        return single_turn({name: task for name, task in found.items() if name in wanted})


def key_of(problem: Problem) -> ProblemKey:
    """What tells problems of several files apart."""
    return problem.task, problem.id, question_of(problem)


def token_ids(trace: Trace, chat: Chat) -> tuple[list[int], list[int]]:
    """A trace in a student's own tokens: the prompt, and the response with its end of turn."""
    return chat.prompt(trace.problem.messages), chat.response(trace.completion.text)


def mean_losses(
    reference: LocalReference, encoded: Sequence[tuple[list[int], list[int]]], limit: int
) -> list[float | None]:
    """Mean negative log-probability of each response's tokens given its prompt, nats; None where it is too long."""
    fits = [place for place, (prompt, response) in enumerate(encoded) if len(prompt) + len(response) <= limit]
    scores = reference.logprobs([[*encoded[place][0], *encoded[place][1]] for place in fits])
    losses: list[float | None] = [None] * len(encoded)
    for place, values in zip(fits, scores, strict=True):
        losses[place] = -float(np.mean(values[len(encoded[place][0]) :], dtype=np.float64))
    return losses


def _graded(trace: Trace, solved: tuple[int, int] | None, loss: float | None) -> Trace:
    parts = {name: value for name, value in trace.parts.items() if name not in (PASS_RATE, LOSS)}
    if solved is not None and solved[1]:
        parts[PASS_RATE] = solved[0] / solved[1]
    if loss is not None:
        parts[LOSS] = loss
    return trace.model_copy(update={"parts": parts})


def _solved_row(problem: Problem, group: Sequence[Trace]) -> Json:
    judged = [trace for trace in group if trace.verdict.outcome is not Outcome.UNKNOWN]
    right = sum(trace.verdict.outcome is Outcome.CORRECT for trace in judged)
    return {"task": problem.task, "id": problem.id, "right": right, "judged": len(judged)}


def _whole_chunks(journal: Journal, size: int, total: int) -> int:
    """Rows that stand in whole chunks; the others are cut off."""
    done = total if len(journal) >= total else len(journal) // size * size
    journal.truncate(done)
    return done


def _choices(stages: Sequence[Stage]) -> Iterator[Any]:
    for stage in stages:
        yield from getattr(stage, "tasks", ())


def _pass_summary(solved: dict[ProblemKey, tuple[int, int]]) -> Json:
    """The student's own rate over problems, and how many it always or never solves."""
    judged = [pair for pair in solved.values() if pair[1]]
    if not judged:
        return {"pass_rate": None}
    rate = clustered_rate([right for right, _ in judged], [n for _, n in judged])
    return {
        "pass_rate": {
            "n": sum(n for _, n in judged),
            "problems": len(judged),
            "rate": round(rate.estimate, 4),
            "low": round(rate.low, 4),
            "high": round(rate.high, 4),
            "never": sum(right == 0 for right, _ in judged),
            "always": sum(right == n for right, n in judged),
            "unjudged": len(solved) - len(judged),
        }
    }


def _loss_summary(traces: Sequence[Trace], measured: bool) -> Json:
    """Mean loss by teacher, and of the shorter and longer half of the traces."""
    if not measured:
        return {"student_loss": None}
    scored = [trace for trace in traces if LOSS in trace.parts]
    middle = median(map(words_of, scored)) if scored else 0
    groups: dict[str, list[float]] = defaultdict(list)
    for trace in scored:
        groups[f"teacher {trace.sampler}" if trace.sampler else "teacher unnamed"].append(trace.parts[LOSS])
        groups["long" if words_of(trace) > middle else "short"].append(trace.parts[LOSS])
    return {
        "student_loss": {
            "n": len(scored),
            "too_long": len(traces) - len(scored),
            "mean": round(fmean(trace.parts[LOSS] for trace in scored), 4) if scored else None,
            "groups": {name: {"n": len(each), "mean": round(fmean(each), 4)} for name, each in sorted(groups.items())},
        }
    }


plugin: type[Stage] = Grade
