"""Samples a teacher on the problems of some tasks and keeps every completion with its verdict.

Problems go through in fixed chunks, and a chunk's traces are journalled together: a run that was killed repeats at most
one chunk and ends with the same traces as one that was not.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from ponder.backends.local import open_sampler
from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Sampler, Watch
from ponder.core.seeds import derive_seed
from ponder.core.types import Completion, Finish, Json, Messages, Outcome, Problem, Sampling, Trace
from ponder.learn.rollout import judge
from ponder.runs.interrupt import raise_if_stopped
from ponder.runs.ledger import count_completions
from ponder.stages._contamination import clean, default_folder
from ponder.stages._estimates.generate import estimate_generate
from ponder.stages._row_texts import problem_texts
from ponder.stages._stage import Context, Estimate, Stage
from ponder.stages._tasks import TaskChoices, draw_problems, isolation_of, open_tasks, single_turn, verifiers_of

SOLUTIONS = "solutions"
"""As a model's name: the task's own worked solutions are the teacher."""


class Generate(Stage):
    """Asks a teacher; verifies what it says; keeps all verdicts."""

    inputs: ClassVar[tuple[str, ...]] = ("model",)

    model: str
    """Model that is sampled, an earlier stage that made one, or `solutions` for the worked solutions of the tasks."""
    tasks: TaskChoices = ("skills",)
    split: str = "train"
    problems: int = Field(default=2000, ge=1)
    """Problems over all tasks together."""
    samples: int = Field(default=1, ge=1)
    """Completions per problem."""
    temperature: float = Field(default=1.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    max_new_tokens: int = Field(default=512, ge=1)
    max_thinking_tokens: int | None = Field(default=None, ge=0)
    chunk: int = Field(default=256, ge=1)
    """Problems that are sampled and journalled together."""
    decontaminate: bool = True
    """Leave out the problems that stand in a benchmark; the summary says which, and what could not be checked."""
    benchmarks: str | None = Field(default_factory=default_folder)
    """Folder or file of benchmarks to compare with, besides what this run is measured on."""

    def __call__(self, context: Context) -> Json:
        """Write `traces.jsonl` and `traces.parquet`; count verdicts by skill."""
        tasks = single_turn(open_tasks(self.tasks))
        problems = draw_problems(tasks, self.split, self.problems, derive_seed(context.seed, "problems"))
        if not problems:
            raise ConfigurationError("the tasks gave no problems", where=f"split {self.split}")
        found: Json | None = None
        if self.decontaminate:
            problems, found = clean(problems, problem_texts, lambda problem: problem.id, context, self.benchmarks)
        source = context.artefact(self.model, "model")
        sampler: Sampler = _Solutions(problems) if source == SOLUTIONS else open_sampler(source)
        verifiers = verifiers_of(tasks)
        journal = context.folder.journal("traces")
        finished = len(journal) // (self.samples * self.chunk) * self.chunk
        journal.truncate(finished * self.samples)
        started = time.monotonic()
        with context.log.progress("generate", total=len(problems) * self.samples, unit="traces") as progress:
            for start in range(finished, len(problems), self.chunk):
                raise_if_stopped()
                chunk = problems[start : start + self.chunk]
                watch = _watcher(progress, start * self.samples)
                asked = [problem.messages for problem in chunk]
                completions = sampler.generate(asked, self.samples, self._sampling(context), watch)
                count_completions(completions)
                traces = [
                    judge(problem, completion, verifiers[problem.task], {}).model_copy(update={"sampler": self.model})
                    for problem, group in zip(chunk, completions, strict=True)
                    for completion in group
                ]
                journal.append_all([_stored(trace) for trace in traces])
                right = sum(t.verdict.outcome is Outcome.CORRECT for t in traces) / len(traces)
                progress.update(min((start + self.chunk), len(problems)) * self.samples, correct=round(right, 3))
        seconds = time.monotonic() - started
        journal.seal()
        counts = {"problems": len(problems), "seconds": round(seconds, 2)}
        return {**_summary(journal.rows()), **counts, **isolation_of(tasks), "contamination": found}

    def estimate(self, context: Context) -> Estimate:
        """See `estimate_generate`."""
        return estimate_generate(self, context)

    def _sampling(self, context: Context) -> Sampling:
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_new_tokens=self.max_new_tokens,
            max_thinking_tokens=self.max_thinking_tokens,
            seed=derive_seed(context.seed, "generate"),
        )


class _Solutions:
    """A sampler that answers with the worked solutions that the task wrote."""

    name = SOLUTIONS

    def __init__(self, problems: Sequence[Problem]) -> None:
        self._solutions = {p.messages: p.meta.get("solution") for p in problems}
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
        return [[Completion(text=str(self._solutions[tuple(p)]))] * samples for p in prompts]


def _watcher(progress: Any, offset: int) -> Watch:
    started = time.monotonic()

    def watch(finished: int, tokens: int) -> None:
        progress.update(offset + finished, tokens_per_second=round(tokens / max(1e-9, time.monotonic() - started)))

    return watch


def _stored(trace: Trace) -> Json:
    """A trace as a row, without token ids, because the student encodes the text for itself, and without the clock."""
    return trace.model_dump(mode="json", exclude={"completion": {"prompt_tokens", "tokens", "logprobs", "seconds"}})


def _summary(rows: Any) -> Json:
    """Verdict counts over all traces and by skill, and the tokens that were sampled."""
    counts: Counter[str] = Counter()
    skills: dict[str, Counter[str]] = {}
    lengths: list[int] = []
    for row in rows:
        trace = Trace.model_validate(row)
        kind = "truncated" if trace.completion.finish is Finish.LENGTH else trace.verdict.outcome.value
        counts[kind] += 1
        skills.setdefault(str(trace.problem.meta.get("skill", trace.problem.task)), Counter())[kind] += 1
        lengths.append(trace.completion.usage.completion_tokens)
    return {
        "traces": sum(counts.values()),
        "verdicts": dict(sorted(counts.items())),
        "skills": {skill: dict(sorted(count.items())) for skill, count in sorted(skills.items())},
        "tokens": sum(lengths),
        "mean_tokens": round(float(np.mean(lengths)), 2) if lengths else 0.0,
    }


plugin: type[Stage] = Generate
