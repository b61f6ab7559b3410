"""Samples teachers on the problems of some tasks and keeps every completion with its verdict.

Problems go through in fixed chunks, teacher by teacher, and a chunk's traces are journalled together: a run that was
killed repeats at most one chunk and ends with the same traces as one that was not.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Task
from ponder.core.seeds import derive_seed
from ponder.core.types import Caps, Json, Outcome, Problem, Sampling, Trace
from ponder.measure.teachers import agreement, kind_of, replies_of, skill_of, teacher_rows
from ponder.measure.terms import Terms
from ponder.runs.caps import CapWatch
from ponder.runs.interrupt import raise_if_stopped
from ponder.runs.log import Progress
from ponder.stages._caps import CAPS, checked_caps
from ponder.stages._chunks import Chunks
from ponder.stages._contamination import clean, default_folder
from ponder.stages._estimates.generate import estimate_generate
from ponder.stages._rounds import Rounds
from ponder.stages._row_texts import problem_texts
from ponder.stages._stage import Context, Estimate, Stage
from ponder.stages._tasks import TaskChoices, draw_problems, isolation_of, open_tasks, single_turn, verifiers_of
from ponder.stages._teachers import (
    SOLUTIONS,
    Teachers,
    account_of,
    is_served,
    labelled,
    open_teacher,
    terms_of,
)
from ponder.stages._watching import watcher

SERVED = "served"
"""File of what served teachers used up: the teacher that was asked last tells the sum of all."""


class Generate(Stage):
    """Asks one teacher or several; verifies what they say; keeps all verdicts."""

    inputs: ClassVar[tuple[str, ...]] = ("model",)
    observers: ClassVar[tuple[str, ...]] = (*CAPS, "terms")

    model: Teachers
    """Model that is sampled, an earlier stage that made one, or `solutions` for the worked solutions of the tasks.
    Several: a list, or a mapping of labels; every trace names its teacher, and each is asked the same problems."""
    tasks: TaskChoices = ("skills",)
    split: str = "train"
    problems: int = Field(default=2000, ge=1)
    """Problems over all tasks together."""
    samples: int = Field(default=1, ge=1)
    """Completions per problem and teacher; at most, when `enough_correct` stops earlier."""
    enough_correct: int | None = Field(default=None, ge=1)
    """Ask in rounds of so many samples, and stop at a problem once a teacher solved it so often."""
    temperature: float = Field(default=1.0, ge=0.0)
    temperatures: tuple[Annotated[float, Field(ge=0.0, le=100.0)], ...] = ()
    """A ladder instead of one temperature: sample i is drawn at the i-th, and its trace says which."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    max_new_tokens: int = Field(default=512, ge=1)
    max_thinking_tokens: int | None = Field(default=None, ge=0)
    chunk: int = Field(default=256, ge=1)
    """Problems that are sampled and journalled together."""
    cost_limit: float | None = Field(default=None, ge=0.0)
    """Pause when served teachers have cost so much, in the currency of their price; resumable under a higher limit."""
    token_limit: int | None = Field(default=None, ge=0)
    """Pause after so many tokens, prompts and completions together."""
    time_limit: float | None = Field(default=None, ge=0.0)
    """Pause after so many seconds of sampling, over all attempts."""
    terms: dict[str, Terms] = Field(default={})
    """By teacher's label (`*`: all others): licence, and whether its answers may be learnt from. Without an entry a
    model folder's card or licence file is read."""
    decontaminate: bool = True
    """Leave out the problems that stand in a benchmark; the summary says which, and what could not be checked."""
    benchmarks: str | None = Field(default_factory=default_folder)
    """Folder or file of benchmarks to compare with, besides what this run is measured on."""

    def __call__(self, context: Context) -> Json:
        """Write `traces.jsonl` and `traces.parquet`; count verdicts by skill, and teachers beside each other."""
        tasks = single_turn(open_tasks(self.tasks))
        problems = draw_problems(tasks, self.split, self.problems, derive_seed(context.seed, "problems"))
        if not problems:
            raise ConfigurationError("the tasks gave no problems", where=f"split {self.split}")
        found: Json | None = None
        if self.decontaminate:
            problems, found = clean(problems, problem_texts, lambda problem: problem.id, context, self.benchmarks)
        sources = {label: context.artefact(name, "model") for label, name in labelled(self.model).items()}
        caps = checked_caps(self.cost_limit, self.token_limit, self.time_limit, sources.values())
        terms = {label: terms_of(label, source, self.terms).model_dump() for label, source in sources.items()}
        context.folder.write_json("terms", terms)
        chunks, rounds = Chunks(context.folder, "traces"), self._rounds(context)
        started = time.monotonic()
        total = len(problems) * self.samples * len(sources)
        with context.log.progress("generate", total=total, unit="traces") as progress:
            for number, (label, source) in enumerate(sources.items()):
                work = _Work(label, source, number, rounds, problems, tasks, caps)
                work.run(context, chunks, self.chunk, progress)
        seconds = time.monotonic() - started
        chunks.rows.seal()
        counts = {"problems": len(problems), "seconds": round(seconds, 2)}
        compared = _teachers_summary(chunks, list(sources), rounds, terms)
        if (served := context.folder.read_json(SERVED)) is not None:
            compared[SERVED] = served
        return {**_summary(chunks.rows.rows()), **counts, **compared, **isolation_of(tasks), "contamination": found}

    def estimate(self, context: Context) -> Estimate:
        """See `estimate_generate`."""
        return estimate_generate(self, context)

    def _rounds(self, context: Context) -> Rounds:
        sampling = Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_new_tokens=self.max_new_tokens,
            max_thinking_tokens=self.max_thinking_tokens,
            seed=derive_seed(context.seed, "generate"),
        )
        return Rounds(sampling, self.samples, self.temperatures, self.enough_correct)


class _Work:
    """One teacher's way through the chunks that are not stored yet."""

    def __init__(
        self,
        label: str,
        source: str,
        number: int,
        rounds: Rounds,
        problems: Sequence[Problem],
        tasks: dict[str, Task],
        caps: Caps,
    ) -> None:
        self.label, self.source, self.number = label, source, number
        self.rounds, self.problems, self.caps = rounds, problems, caps
        self.verifiers = verifiers_of(tasks)

    def run(self, context: Context, chunks: Chunks, size: int, progress: Progress) -> None:
        """Sample, judge and store; a teacher that is done is not even opened."""
        starts = range(0, len(self.problems), size)
        before, offset = self.number * len(starts), self.number * len(self.problems) * self.rounds.samples
        done = max(0, min(len(chunks) - before, len(starts)))
        if done == len(starts):
            return
        self._check_caps(chunks)
        sampler = open_teacher(self.source, self.problems, context.folder.path / "purchases", self.caps)
        for start in starts[done:]:
            raise_if_stopped()
            self._check_caps(chunks)
            chunk = self.problems[start : start + size]
            began = time.monotonic()
            watch = watcher(progress, offset + start * self.rounds.samples)
            drawn = self.rounds.draw(sampler, chunk, self.verifiers, self.label, watch)
            traces = [trace for group in drawn for trace in group]
            usages = [trace.completion.usage for trace in traces]
            mark = {
                "teacher": self.label,
                "start": start,
                "tokens": sum(usage.prompt_tokens + usage.completion_tokens for usage in usages),
                "seconds": round(time.monotonic() - began, 3),
            }
            chunks.add([stored_row(trace) for trace in traces], mark)
            right = sum(t.verdict.outcome is Outcome.CORRECT for t in traces) / len(traces)
            done_now = offset + min(start + size, len(self.problems)) * self.rounds.samples
            progress.update(done_now, correct=round(right, 3))
        if account := account_of(sampler):
            folder = context.folder
            folder.write_json(SERVED, {**(folder.read_json(SERVED) or {}), self.label: account})

    def _check_caps(self, chunks: Chunks) -> None:
        """Money is counted by the account of a served model, request by request."""
        tokens, seconds = int(chunks.total("tokens")), chunks.total("seconds")
        CapWatch(self.caps, cost=None, tokens=tokens, seconds=seconds, where=str(chunks.rows.path)).check()


def _weightless(source: str) -> bool:
    return source == SOLUTIONS or source.startswith("scripted:") or is_served(source)


def stored_row(trace: Trace) -> Json:
    """A trace as a row, without token ids, because the student encodes the text for itself, and without the clock."""
    return trace.model_dump(mode="json", exclude={"completion": {"prompt_tokens", "tokens", "logprobs", "seconds"}})


def _teachers_summary(chunks: Chunks, labels: Sequence[str], rounds: Rounds, terms: Json) -> Json:
    """Every teacher's rates with its terms, and how far they agree."""
    replies = replies_of((Trace.model_validate(row) for row in chunks.rows.rows()), labels)
    rows = teacher_rows(replies, rounds.first)
    compared = agreement(replies, rounds.first)
    teachers = {label: {**row, "terms": terms[label]} for label, row in rows.items()}
    return {"teachers": teachers, **({"agreement": compared} if compared is not None else {})}


def _summary(rows: Any) -> Json:
    """Verdict counts over all traces and by skill, and the tokens that were sampled."""
    counts: Counter[str] = Counter()
    skills: dict[str, Counter[str]] = {}
    lengths: list[int] = []
    for row in rows:
        trace = Trace.model_validate(row)
        kind = kind_of(trace)
        counts[kind] += 1
        skills.setdefault(skill_of(trace), Counter())[kind] += 1
        lengths.append(trace.completion.usage.completion_tokens)
    return {
        "traces": sum(counts.values()),
        "verdicts": dict(sorted(counts.items())),
        "skills": {skill: dict(sorted(count.items())) for skill, count in sorted(skills.items())},
        "tokens": sum(lengths),
        "mean_tokens": round(float(np.mean(lengths)), 2) if lengths else 0.0,
    }


plugin: type[Stage] = Generate
