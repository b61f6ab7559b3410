"""Chooses the traces a student is to learn from, keeps corrected mistakes beside them, and says what was dropped.

It reads traces of any number of earlier stages or files and writes one file that `distill` reads as it is. Nothing is
sampled, so a run that was killed simply chooses again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from ponder.core.errors import ConfigurationError, PonderError
from ponder.core.types import Json, Outcome, Trace
from ponder.measure.duplicates import LEAST
from ponder.runs.store import read_rows
from ponder.stages._outlook import NOTHING
from ponder.stages._stage import Context, Estimate, Stage
from ponder.stages._traces.choosing import (
    LOSS,
    PASS_RATE,
    Dropped,
    Mix,
    Policy,
    chosen_by,
    curriculum,
    grouped,
    learnable,
    mistakes,
    mixed,
    pooled,
    refusal,
    within_reach,
    without_repeats,
    words_of,
)
from ponder.stages._traces.files import gathered_terms, read_traces, replace_rows, row_of, traces_file

PROCESS_BYTES = 300 * 1024**2
TRACE_BYTES = 20_000
"""Of a trace in memory, roughly."""


class Select(Stage):
    """Filters, deduplicates, mixes and orders traces; keeps corrected mistakes as negatives."""

    inputs: ClassVar[tuple[str, ...]] = ("traces",)

    traces: str | tuple[str, ...]
    """Earlier stages, their folders, or files of traces (JSONL or Parquet)."""
    policy: Policy = "all"
    """Which right traces of a problem stay: all, the shortest, or those that differ most from each other."""
    keep: int | None = Field(default=None, ge=1)
    """At most so many of each problem; `shortest` and `diverse` need it."""
    min_words: int = Field(default=0, ge=0)
    max_words: int | None = Field(default=None, ge=1)
    """Length of a response in words, thinking included."""
    near_responses: float | None = Field(default=0.9, ge=LEAST, le=1.0)
    """Of two responses to one problem that share so much (Jaccard of word pairs) the second is dropped; None: only
    equal ones."""
    near_problems: float | None = Field(default=None, ge=LEAST, le=1.0)
    """The same for questions. Off by default: questions of one template differ in numbers only, and are not the same.
    Equal questions are always one problem."""
    min_pass_rate: float = Field(default=0.0, ge=0.0, le=1.0)
    """Leave out problems that the student solves more seldom; needs traces that `grade` went through."""
    max_pass_rate: float = Field(default=1.0, ge=0.0, le=1.0)
    """Leave out problems that the student solves more often."""
    mix: Mix = Mix()
    order: Literal["stored", "curriculum"] = "stored"
    """`curriculum`: from what the student solves most often to what it never solves, the shorter first; each trace
    says its place as `rank` among its parts."""
    negatives: int = Field(default=1, ge=0)
    """Wrong traces of each kept problem that are stored beside a right one, in `negatives.parquet`."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.policy != "all" and self.keep is None:
            raise ValueError(f"the policy {self.policy!r} needs `keep`: how many traces of a problem stay")
        if self.min_pass_rate > self.max_pass_rate:
            raise ValueError("min_pass_rate is above max_pass_rate")
        if self.max_words is not None and self.min_words > self.max_words:
            raise ValueError("min_words is above max_words")
        if self.mix.teachers and not (min(self.mix.teachers.values()) >= 0 and any(self.mix.teachers.values())):
            raise ValueError("the shares of mix.teachers are 0 or more, and one of them is more")
        return self

    def __call__(self, context: Context) -> Json:
        """Write `traces.parquet` and `negatives.parquet`, and say what was dropped and why.

        Raises:
            PonderError: If nothing is left; shows the table.
            ConfigurationError: If a setting needs grades and the traces have none.
        """
        paths = self._paths(context)
        everything = [trace for path in paths for trace in read_traces(path)]
        self._check_grades(everything, paths)
        dropped = Dropped()
        kept, wrong = self._chosen(everything, context.seed, dropped)
        if not kept:
            hint = "; the mix asks for a kind of trace that is missing" if dropped.reasons["mix"] else ""
            raise PonderError(
                f"0 of {len(everything):,} traces are kept: {dropped.table or 'the files are empty'}{hint}",
                where=", ".join(map(str, paths)),
                fix="loosen the setting that drops the most, or sample more traces",
            )
        pairs = mistakes(wrong, kept, self.negatives) if self.negatives else []
        terms = gathered_terms(paths, kept)
        context.folder.write_json("terms", terms)
        replace_rows(context.folder.journal("negatives"), (negative_row(*pair) for pair in pairs))
        replace_rows(context.folder.journal("traces"), map(row_of, kept))
        context.log.note(f"{len(kept):,} of {len(everything):,} traces kept: dropped {dropped.table or 'none'}")
        return {
            "traces": {"read": len(everything), "kept": len(kept), **dict(sorted(dropped.reasons.items()))},
            "problems": len(grouped(kept)),
            "negatives": len(pairs),
            "samplers": _samplers(kept, dropped),
            "terms": terms,
        }

    def estimate(self, context: Context) -> Estimate:
        """Rows of the files that exist already."""
        named = [Path(context.artefact(name, "traces.parquet")).expanduser() for name in self._names]
        files = [path / "traces.parquet" if path.is_dir() else path for path in named]
        rows = sum(sum(1 for _ in read_rows(path)) for path in files if path.exists())
        note = "" if all(path.exists() for path in files) else "some traces do not exist yet"
        ahead = [context.outlook.leaves[name] for name in self._names if name in context.outlook.leaves]
        rows += sum(round(leaves.traces.expected) for leaves in ahead if leaves.traces is not None)
        seconds = 1 + rows / 2000
        return Estimate(
            rows, 0, PROCESS_BYTES + rows * TRACE_BYTES, seconds, note, seconds / 3, 3 * seconds,
            left_bytes=rows * TRACE_BYTES, disk_bytes=rows * TRACE_BYTES, leaves=ahead[0] if ahead else NOTHING,
        )  # fmt: skip

    @property
    def _names(self) -> tuple[str, ...]:
        return (self.traces,) if isinstance(self.traces, str) else self.traces

    def _paths(self, context: Context) -> list[Path]:
        if not self._names:
            raise ConfigurationError("no traces are named", where="traces")
        return [traces_file(Path(context.artefact(name, "traces.parquet"))) for name in self._names]

    def _check_grades(self, traces: Sequence[Trace], paths: Sequence[Path]) -> None:
        by_rate = self.min_pass_rate > 0 or self.max_pass_rate < 1
        by_loss = self.mix.max_student_loss is not None or self.mix.drop_hardest > 0
        for wanted, part in ((by_rate or self.order == "curriculum", PASS_RATE), (by_loss, LOSS)):
            if wanted and traces and not any(part in trace.parts for trace in traces):
                raise ConfigurationError(
                    f"no trace says its {part}",
                    where=", ".join(map(str, paths)),
                    fix="measure the student on them first: `ponder grade`, or a stage `grade` before this one",
                )

    def _chosen(self, traces: list[Trace], seed: int, dropped: Dropped) -> tuple[list[Trace], list[Trace]]:
        """The traces that stay, and the finished wrong ones."""
        traces = pooled(traces, dropped, self.near_problems)
        wrong = [t for t in traces if t.verdict.outcome is Outcome.WRONG and refusal(t) == "wrong"]
        kept = dropped.split(traces, refusal)
        kept = dropped.split(kept, self._length)
        kept = without_repeats(kept, dropped, self.near_responses)
        if self.min_pass_rate > 0 or self.max_pass_rate < 1:
            kept = within_reach(kept, self.min_pass_rate, self.max_pass_rate, dropped)
        kept = learnable(kept, self.mix, dropped)
        kept = chosen_by(self.policy, self.keep, kept, dropped)
        kept = mixed(kept, self.mix, seed, dropped)
        return curriculum(kept) if self.order == "curriculum" else kept, wrong

    def _length(self, trace: Trace) -> str | None:
        count = words_of(trace)
        if count < self.min_words:
            return "too_short"
        return "too_long" if self.max_words is not None and count > self.max_words else None


def negative_row(wrong: Trace, right: Trace) -> Json:
    """A mistake beside its correction, in the columns that preference training reads."""
    return {
        "problem": right.problem.model_dump(mode="json"),
        "prompt": [{"role": message.role, "content": message.content} for message in right.problem.messages],
        "chosen": [{"role": "assistant", "content": right.completion.text}],
        "rejected": [{"role": "assistant", "content": wrong.completion.text}],
        "chosen_sampler": right.sampler,
        "rejected_sampler": wrong.sampler,
        "reason": wrong.verdict.reason,
    }


def _samplers(kept: Sequence[Trace], dropped: Dropped) -> dict[str, Json]:
    counts = Counter(trace.sampler for trace in kept)
    labels = sorted({*counts, *dropped.samplers})
    return {label: {"kept": counts[label], **dict(sorted(dropped.samplers[label].items()))} for label in labels}


plugin: type[Stage] = Select
