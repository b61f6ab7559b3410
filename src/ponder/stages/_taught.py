"""What stages that learn from a teacher share: who it is, whether its tokens are the student's, what it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Objective, Reference, Teacher
from ponder.core.types import Group, Metrics, Trace
from ponder.engines._pack_teacher import PackTeacher
from ponder.engines._teachers import Together
from ponder.learn.fit import FitBatch
from ponder.models.load import LoadedModel, save_model
from ponder.runs.ledger import count_tokens
from ponder.stages._stage import SNAPSHOTS, Context


def named(context: Context, models: str | dict[str, str]) -> str | dict[str, str]:
    """Models by their place: one, or one for each task."""
    if isinstance(models, str):
        return context.artefact(models, "model")
    return {task: context.artefact(model, "model") for task, model in models.items()}


def snapshots(steps: Sequence[int], loaded: LoadedModel, context: Context) -> Callable[[int], None]:
    """Saves the model after the steps that were asked for."""

    def after_step(step: int) -> None:
        if step in steps:
            save_model(loaded.model, loaded.chat, context.folder.path / SNAPSHOTS / str(step))

    return after_step


def check_pack(pack: PackTeacher, student: LoadedModel, path: Path) -> None:
    """Refuse a pack whose token ids are not the student's.

    Raises:
        ConfigurationError: If tokenizer or template differ.
    """
    header = pack.header
    different = [
        what
        for what, theirs, own in (
            ("tokenizer", header.tokenizer, student.chat.tokens_digest),
            ("chat template", header.template, student.chat.digest),
        )
        if theirs != own
    ]
    if different:
        raise ConfigurationError(
            f"this pack was made for another {' and another '.join(different)} than the student's",
            where=str(path),
            fix="make the pack with `student` set to this model, or distil from its traces alone (sft)",
        )


def tokens_read(traces: Sequence[Trace]) -> int:
    """Tokens that a teacher reads to speak about traces: equal prompts once, and every completion."""
    prompts = {trace.completion.prompt_tokens or () for trace in traces}
    return sum(map(len, prompts)) + sum(len(trace.completion.tokens or ()) for trace in traces)


def taught_batch(
    objective: Objective,
    groups: list[Group],
    teacher: Teacher | None,
    metrics: Metrics | None = None,
    reference: Reference | None = None,
) -> FitBatch:
    """What a step learns from its groups; a teacher is asked about all of them at once."""
    found: Metrics = dict(metrics or {})
    everyone: list[Trace] = [trace for group in groups for trace in group.traces]
    asked = teacher
    if teacher is not None and not isinstance(teacher, PackTeacher):
        asked = Together(teacher, everyone)
        found["scored"] = float(tokens_read(everyone))
        count_tokens(scored=int(found["scored"]))
    examples = [example for group in groups for example in objective(group, reference, asked)]
    return FitBatch(examples, found)
