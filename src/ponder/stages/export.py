"""Makes artefacts of a model for other runtimes, and lets go of those that behave as the model does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from ponder.backends.local import model_parameters, open_sampler
from ponder.backends.teachers import teacher_of
from ponder.core.errors import ConfigurationError, PonderError
from ponder.core.protocols import Exporter
from ponder.core.seeds import derive_seed
from ponder.core.types import FloatArray, Json, Sampling, Trace
from ponder.measure.release import Bounds, Judged, Release
from ponder.measure.resources import usable_cores
from ponder.measure.stored import stored_trace
from ponder.models.adapters import is_adapter
from ponder.models.importance import importance_of
from ponder.models.load import LoadedModel, load_model, resolve_model, save_model
from ponder.report.evaluations import Evaluation as Stored
from ponder.report.provenance import CARD
from ponder.report.release import RELEASE, failed_lines, release_card, release_lines, unclear_terms
from ponder.runs.files import write_atomic
from ponder.stages._release.behaviour import Answered
from ponder.stages._release.candidates import REFUSED, RELEASED, Candidate, let_go, made, made_before
from ponder.stages._release.forms import exporter_of, forms_of, is_weighed
from ponder.stages._release.gate import Trained, judge_artefact, judged_by, opening_finding, stored_findings
from ponder.stages._release.likeness import special_names
from ponder.stages._release.record import release_record
from ponder.stages._release.speed import measured_speed
from ponder.stages._release.texts import texts_for
from ponder.stages._stage import Context, Estimate, Stage
from ponder.stages._tasks import TaskChoices, draw_problems, open_tasks
from ponder.stages.evaluate import Evaluate

TRAINED = "trained"
"""Label of the model that the artefacts are compared with."""
MERGED = "merged"
"""Folder of an adapter and its model in one."""
MEMORY_FACTOR = 12
"""Bytes for each parameter: the model, its logits, and what is being written."""
FORM_FACTOR = 5
"""Bytes on disk for each parameter of one form, at most a little more than float32."""
MAKING_SECONDS = 15.0
"""To write a form, compare it and measure its speed."""
OTHER_RUNTIMES = 10.0
"""How much slower than Ponder's engine another runtime may be."""


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class Export(Stage):
    """Writes a model in every form that is asked for, and refuses what does not behave as the model did.

    `release/` holds what passed with its model card and `release.json`, `refused/` what did not.
    """

    inputs: ClassVar[tuple[str, ...]] = ("model",)

    model: str
    """An earlier stage, a model folder, an adapter's folder (which is merged first), or a shipped model."""
    to: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = ("gguf:q8_0",)
    """Forms: EXPORTER:FORM, several of one exporter as gguf:q8_0,q4_k_m."""
    name: str = ""
    """Of the files; by default that of the stage or folder."""
    tasks: TaskChoices = ("skills",)
    """On whose problems the answers are compared."""
    split: str = "test"
    limit: int = Field(default=50, ge=1)
    """Problems of every task; with the six skills, 300 in all."""
    max_new_tokens: int = Field(default=512, ge=1)
    max_thinking_tokens: int | None = Field(default=None, ge=0)
    texts: int = Field(default=3000, ge=1)
    """Strings on which the tokenizers must agree."""
    tokens: int = Field(default=1000, ge=1)
    """Tokens of held-out answers along which the next-token distributions are compared."""
    weighed_by: int = Field(default=128, ge=0)
    """Problems of the training split along whose answers quantisers learn which numbers matter; 0: all alike."""
    threads: int | None = Field(default=None, ge=1)
    """For the measurement of speed; by default all cores but one."""
    bounds: Bounds = Bounds()
    confirm_terms: bool = False
    """Whether a person has seen to it that the model may be passed on, where a licence is unknown or forbids it."""

    def __call__(self, context: Context) -> Json:
        """Make, compare, and let go.

        Raises:
            ConfigurationError: If nothing says that the model may be passed on, and nobody has confirmed it.
            PonderError: If an artefact breaks a bound; everything that was found is stored before.
        """
        self._require_terms(context)
        folder, name = self._whole(context), self._name(context)
        forms = forms_of(self.to)
        exporters = {form: exporter_of(form, name=name) for form in forms}  # an unknown form is refused at once
        if any(is_weighed(form) for form in forms) and not made_before(context.folder, forms):
            importance = self._importance(folder, context)
            exporters = {form: exporter_of(form, name=name, importance=importance) for form in forms}
        candidates = made(context.folder, list(exporters), lambda form, place: exporters[form](folder, place))
        judged, worst, trained = self._judged(context, folder, candidates, exporters)
        own, asked, joules = self._speed(str(folder), trained), self._asked(context), _joules(context)
        return self._let_go(context, candidates, release_record(name, trained, own, judged, asked, joules), worst)

    def estimate(self, context: Context) -> Estimate:
        """The evaluation of the model and of every artefact, and their writing."""
        forms = forms_of(self.to)
        parameters = model_parameters(context.artefact(self.model, "model"))
        asked = self._evaluation(self.model, context, ()).estimate(context)
        sides, making = 1 + len(forms), MAKING_SECONDS * len(forms)
        low, high = (asked.seconds if bound is None else bound for bound in (asked.low_seconds, asked.high_seconds))
        left = FORM_FACTOR * parameters * len(forms)
        return replace(
            asked,
            rows=asked.rows * sides,
            tokens=asked.tokens * sides,
            prompt_tokens=None if asked.prompt_tokens is None else asked.prompt_tokens * sides,
            sampled_tokens=None if asked.sampled_tokens is None else asked.sampled_tokens * sides,
            memory_bytes=max(asked.memory_bytes, 450 * 1024**2 + MEMORY_FACTOR * parameters),
            seconds=asked.seconds * sides + making,
            low_seconds=low + making / 3,
            high_seconds=OTHER_RUNTIMES * high * sides + 3 * making,
            note=f"{asked.note}; other runtimes are taken to be as fast".removeprefix("; "),
            disk_bytes=asked.disk_bytes + left,
            left_bytes=asked.left_bytes + left,
        )

    def _require_terms(self, context: Context) -> None:
        unclear = unclear_terms(context.folder.path, self.model)
        if unclear and not self.confirm_terms:
            raise ConfigurationError(
                "; ".join(unclear),
                where="confirm_terms",
                fix="write `license:` at the head of the model's README.md, or say --confirm-terms if you may ship it",
            )
        for sentence in unclear:
            context.log.note(f"confirmed: {sentence}")

    def _judged(
        self, context: Context, folder: Path, candidates: Sequence[Candidate], exporters: Mapping[str, Exporter]
    ) -> tuple[list[Judged], dict[str, list[Json]], Trained]:
        """Every candidate beside the model, the worst answers of each, and the model."""
        unopened = {one.form: opening_finding(context.folder.path / one.path) for one in candidates}
        opened = [one for one in candidates if unopened[one.form] is None]
        self._evaluation(str(folder), context, opened)(context)
        trained = self._trained(folder, load_model(str(folder)), context)
        judged: list[Judged] = []
        worst: dict[str, list[Json]] = {}
        for candidate in candidates:
            context.log.note(f"{context.folder.path.name}: {candidate.form} goes through the gate")
            path, exporter = context.folder.path / candidate.path, exporters[candidate.form]
            if (failed := unopened[candidate.form]) is not None:
                findings = [failed, *stored_findings(folder, path, exporter)]
                judged.append(judged_by(findings, candidate, path, {}))
                continue
            answers, speed = _traces(context, candidate.form), self._speed(str(path), trained)
            found, worst[candidate.form] = judge_artefact(trained, candidate, path, exporter, answers, speed)
            context.folder.write_json(f"worst-{candidate.label}", worst[candidate.form])
            judged.append(found)
        return judged, worst, trained

    def _whole(self, context: Context) -> Path:
        """The model's folder; an adapter becomes a whole model first."""
        folder = resolve_model(context.artefact(self.model, "model"))
        if not is_adapter(folder):
            return folder
        merged = context.folder.path / MERGED
        if not merged.is_dir():
            loaded = load_model(str(folder))
            save_model(loaded.model, loaded.chat, merged)
        return merged

    def _name(self, context: Context) -> str:
        """Of the files: what a person would call the model."""
        folder = Path(context.artefact(self.model, "model"))
        return self.name or (folder.parent.name if folder.name in ("model", "adapter") else folder.resolve().name)

    def _evaluation(self, model: str, context: Context, candidates: Sequence[Candidate]) -> Evaluate:
        """The same problems for the model and all artefacts."""
        artefacts = {candidate.form: str(context.folder.path / candidate.path) for candidate in candidates}
        return Evaluate(
            models={TRAINED: model, **artefacts},
            tasks=self.tasks,
            splits=(self.split,),
            limit=self.limit,
            max_new_tokens=self.max_new_tokens,
            max_thinking_tokens=self.max_thinking_tokens,
            seed=context.seed,
        )

    def _importance(self, folder: Path, context: Context) -> dict[str, FloatArray]:
        """Of the inputs of every matrix, along the model's own answers to problems that are not the release's."""
        if not self.weighed_by:
            return {}
        tasks = open_tasks(self.tasks)
        split = next((name for name in ("train", "validation") if all(name in t.splits for t in tasks.values())), None)
        if split is None or split == self.split:
            context.log.note("no split but the release's own: quantised without an importance matrix")
            return {}
        problems = draw_problems(tasks, split, self.weighed_by, derive_seed(context.seed, "importance"))
        sampling = Sampling(temperature=0.0, max_new_tokens=self.max_new_tokens)
        groups = open_sampler(str(folder)).generate([problem.messages for problem in problems], 1, sampling)
        return importance_of(folder, [[*(one.prompt_tokens or ()), *(one.tokens or ())] for (one,) in groups])

    def _trained(self, folder: Path, loaded: LoadedModel, context: Context) -> Trained:
        chat = loaded.chat
        words = [chat.tokenizer.decode([token]) for token in range(len(chat.tokenizer))]
        texts = texts_for(self.texts, derive_seed(context.seed, "export"), special_names(chat), words)
        return Trained(
            folder=folder,
            chat=chat,
            teacher=teacher_of(loaded),
            answered=Answered.of(_traces(context, TRAINED)),
            texts=tuple(texts),
            bounds=self.bounds,
            tokens=self.tokens,
        )

    def _speed(self, model: str, trained: Trained) -> Json:
        prompts = [trace.problem.messages[-1].content for trace in trained.answered.traces[:32]]
        return measured_speed(model, prompts, self.threads or max(1, usable_cores() - 1))

    def _asked(self, context: Context) -> Json:
        """What was asked, for the record."""
        plan: Json = context.folder.read_json("evaluation")
        return {key: plan[key] for key in ("tasks", "splits", "limit", "problems", "problems_digest", "sampling")}

    def _let_go(
        self, context: Context, candidates: Sequence[Candidate], record: Release, worst: dict[str, list[Json]]
    ) -> Json:
        """Store everything, part what passed from what did not, and say so."""
        folder = context.folder
        folder.write_json("release", record.model_dump(mode="json"))
        files = {one.form: let_go(folder, one, record.artefact(one.form).passed) for one in candidates}
        for place in {path.parent for path in files.values()}:
            write_atomic(place / RELEASE, record.model_dump_json(indent=2).encode() + b"\n")
            write_atomic(place / CARD, release_card(folder.path, record).encode())
        for line in release_lines(record):
            context.log.note(line)
        if not record.passed:
            for line in failed_lines(record, worst):
                context.log.note(line)
            broken = [one.form for one in record.artefacts if not one.passed]
            raise PonderError(
                f"{', '.join(broken)} did not pass the release gate",
                where=str(folder.path / REFUSED / RELEASE),
                fix="mend what the lines above name, choose a form with more bits, or widen the bound knowingly",
            )
        return {
            "release": str(Path(RELEASED)),
            "artefacts": [
                {
                    "form": one.form,
                    "file": one.file,
                    "bytes": one.bytes,
                    "accuracy": one.fact("accuracy", "accuracy"),
                    "difference": one.fact("accuracy", "difference"),
                }
                for one in record.artefacts
            ],
        }


def _joules(context: Context) -> dict[str, float | None]:
    """Energy of an answer, as the evaluation counted it."""
    costs = (context.folder.read_json("timing") or {}).get("costs", ())
    return {row["model"]: row.get("joules_per_answer") for row in costs}


def _traces(context: Context, label: str) -> list[Trace]:
    """The stored answers of one side."""
    stored = Stored(context.folder.path, context.folder.read_json("evaluation"))
    return [stored_trace(row) for row in stored.rows_of(label)]


plugin: type[Stage] = Export
