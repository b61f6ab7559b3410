"""Teaches a student from stored traces: what the teacher said (`sft`), or what it expected at every token (`kd`).

Only traces that were judged correct and ended by themselves are learnt. The same stage fine-tunes on a user's own
worked solutions, and with `answers_only` it trains the control that never sees a reason.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from ponder.backends.local import trainer_for
from ponder.backends.teachers import coverage_of, open_teacher
from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Objective, Teacher
from ponder.core.types import Group, Json
from ponder.engines._pack_teacher import PackTeacher
from ponder.learn.fit import FitBatch, fit
from ponder.learn.order import indices_at, steps_for
from ponder.learn.train import Optimisation
from ponder.models.load import LoadedModel, load_model
from ponder.models.lora import Adapter
from ponder.report.provenance import write_card
from ponder.runs.pack import PACK
from ponder.stages._contamination import default_folder
from ponder.stages._estimates.distill import estimate_distill
from ponder.stages._learnable import Choice, Learnable, in_curriculum, learnable, traces_path
from ponder.stages._plugins import open_objective, says
from ponder.stages._saving import save_trained
from ponder.stages._stage import Context, Estimate, Stage
from ponder.stages._taught import check_pack, named, snapshots, taught_batch
from ponder.stages._traces.files import read_traces

UNPACKED = "unpacked"


class Distill(Stage):
    """Training on the correct traces of an earlier stage or a file."""

    inputs: ClassVar[tuple[str, ...]] = ("model", "traces", "teacher")

    model: str
    """The student."""
    traces: str
    """An earlier stage, its folder, or a file: traces (JSONL or Parquet), or a teacher pack."""
    objective: dict[str, JsonValue] = Field(default={"use": "sft"})
    """`sft`, or `kd` with its settings."""
    teacher: str | dict[str, str] | None = None
    """The model that an objective such as `kd` asks, or models by task; None when `traces` is a pack."""
    per_problem: int | None = Field(default=None, ge=1)
    """At most this many correct traces of one problem, the shortest first; None keeps all."""
    answers_only: bool = False
    """Drop the thinking and learn the bare answer: the control that shows what reasoning is worth."""
    order: Literal["shuffled", "curriculum"] = "shuffled"
    """`curriculum`: in the order that `select` gave them, from easy to difficult, again and again."""
    epochs: float = Field(default=2.0, gt=0.0)
    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; overrides `epochs`, so that two runs can be given the same number of updates."""
    examples_per_step: int = Field(default=64, ge=1)
    max_tokens: int = Field(default=2048, ge=8)
    """Longer traces are dropped and counted."""
    optimisation: Optimisation = Optimisation(optimizer="muon", lr=0.01, warmup_steps=10, decay="linear")
    adapter: Adapter | None = None
    """Train a low-rank change (LoRA) and leave the model itself as it is; None trains every weight."""
    checkpoint_every: int = Field(default=50, ge=1)
    snapshots: tuple[int, ...] = ()
    """Steps after which the model is kept, as `STAGE@STEP` for later stages: accuracy against compute in one run."""
    decontaminate: bool = True
    """Leave out the traces that stand in a benchmark; the summary says which, and what could not be checked."""
    benchmarks: str | None = Field(default_factory=default_folder)
    """Folder or file of benchmarks to compare with, besides what this run is measured on."""

    def __call__(self, context: Context) -> Json:
        """Train, save `model/`, and report what was kept, what was dropped and why."""
        loaded = load_model(context.artefact(self.model, "model"))
        objective = open_objective(self.objective)
        teacher, found = self._sources(context, loaded, objective)
        traces = in_curriculum(found.traces) if self.order == "curriculum" else found.traces
        steps = self.steps or steps_for(len(traces), self.epochs, self.examples_per_step)
        trainer = trainer_for(
            loaded, self.optimisation, steps, objective.surrogate, adapter=self.adapter, seed=context.seed
        )
        context.log.note(f"{len(traces):,} traces, {steps} steps of {self.examples_per_step}")

        def examples_at(step: int) -> FitBatch:
            chosen = [traces[i] for i in self._places(context.seed, len(traces), step)]
            return taught_batch(objective, [Group(trace.problem, (trace,)) for trace in chosen], teacher)

        summary = fit(
            trainer,
            examples_at,
            steps=steps,
            folder=context.folder,
            log=context.log,
            checkpoint_every=self.checkpoint_every,
            after_step=snapshots(self.snapshots, loaded, context),
            key=f"{context.seed}:{self.model_dump_json()}",
        )
        summary |= save_trained(trainer, loaded, context.artefact(self.model, "model"), context.folder.path)
        if isinstance(teacher, PackTeacher):
            summary["pack"] = teacher.header.model_dump(exclude={"format"})
            teacher.close()
        summary |= coverage_of(teacher) | found.kept
        write_card(context.folder.path, summary)
        return summary

    def estimate(self, context: Context) -> Estimate:
        """See `estimate_distill`."""
        return estimate_distill(self, context)

    def _places(self, seed: int, size: int, step: int) -> list[int]:
        """Which traces a step learns from."""
        if self.order == "shuffled":
            return indices_at(seed, size, self.examples_per_step, step)
        first = step * self.examples_per_step
        return [place % size for place in range(first, first + self.examples_per_step)]

    def _sources(
        self, context: Context, student: LoadedModel, objective: Objective
    ) -> tuple[Teacher | None, Learnable]:
        """Who is asked, and what is learnt.

        Raises:
            ConfigurationError: If the objective needs a teacher and there is none, or the pack is of other tokens.
        """
        path = traces_path(context, self.traces)
        choice = Choice(self.per_problem, self.answers_only, self.max_tokens, self.decontaminate, self.benchmarks)
        taught = says(objective, "asks_teacher")
        if path.name != PACK:
            if taught and self.teacher is None:
                raise ConfigurationError(
                    f"{self.objective['use']} has nobody to ask: `traces` is no pack and no `teacher` is named",
                    where="teacher",
                )
            teacher = open_teacher(named(context, self.teacher), student) if taught and self.teacher else None
            return teacher, learnable(read_traces(path), student.chat, choice, context, path)
        pack = PackTeacher(path, context.folder.path / UNPACKED)
        check_pack(pack, student, path)
        return pack, learnable(pack.rows(), student.chat, choice, context, path)


plugin: type[Stage] = Distill
