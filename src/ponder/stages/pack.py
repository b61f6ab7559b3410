"""Makes a teacher pack: stored traces with what a teacher expects at every token, for machines that never load it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from ponder.backends.teachers import coverage_of, open_teacher
from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Teacher
from ponder.core.types import Json, Trace
from ponder.engines._pack_teacher import pack_row
from ponder.measure.terms import Terms
from ponder.models.load import load_model, resolve_model, weights_folder
from ponder.runs.interrupt import raise_if_stopped
from ponder.runs.ledger import count_tokens
from ponder.runs.pack import PACK, PackHeader, PackWriter, read_header, read_pack
from ponder.stages._contamination import default_folder
from ponder.stages._estimates.pack import estimate_pack
from ponder.stages._learnable import Choice, learnable, traces_path
from ponder.stages._stage import Context, Estimate, Stage
from ponder.stages._taught import named, tokens_read
from ponder.stages._teachers import terms_of
from ponder.stages._traces.files import gathered_terms, read_traces

PARTS = "parts"


class Pack(Stage):
    """Asks a teacher about traces, once."""

    inputs: ClassVar[tuple[str, ...]] = ("model", "traces", "student")

    model: str | dict[str, str]
    """The teacher, or teachers by the task that a problem names (`*`: every other one)."""
    traces: str
    """An earlier stage, its folder, or a file of traces (JSONL or Parquet)."""
    student: str | None = None
    """Whose tokens the pack is made of; the teacher's own by default."""
    top_k: int = Field(default=32, ge=1)
    """Tokens of each distribution that are kept; the rest is one mass."""
    per_problem: int | None = Field(default=None, ge=1)
    """At most this many correct traces of one problem, the shortest first; None keeps all."""
    wrong_too: bool = False
    """Keep traces whose answer is wrong as well."""
    max_tokens: int = Field(default=2048, ge=8)
    """Longer traces are dropped and counted."""
    terms: dict[str, Terms] = Field(default={})
    """Licence and terms of use of a teacher's answers, by model; by default as its folder says. Stored in the pack."""
    chunk: int = Field(default=256, ge=1)
    """Traces that are asked about and stored together."""
    decontaminate: bool = True
    """Leave out the traces that stand in a benchmark; the summary says which, and what could not be checked."""
    benchmarks: str | None = Field(default_factory=default_folder)
    """Folder or file of benchmarks to compare with, besides what this run is measured on."""

    def __call__(self, context: Context) -> Json:
        """Write `pack.parquet`; a run that was killed repeats at most one chunk."""
        student = load_model(context.artefact(self._student(), "model"))
        path = traces_path(context, self.traces)
        choice = Choice(self.per_problem, False, self.max_tokens, self.decontaminate, self.benchmarks, self.wrong_too)
        found = learnable(read_traces(path), student.chat, choice, context, path)
        teacher = open_teacher(named(context, self.model), student)
        header = PackHeader(
            teacher=self._named(),
            teacher_digest=weights_digest(context.artefact(self.model, "model")) if isinstance(self.model, str) else "",
            top_k=min(self.top_k, int(student.model.config.get_text_config().vocab_size)),
            vocabulary=int(student.model.config.get_text_config().vocab_size),
            tokenizer=student.chat.tokens_digest,
            template=student.chat.digest,
            terms=self._terms(context, path, found.traces),
        )
        context.folder.write_json("terms", header.terms)
        parts = self._parts(context, found.traces, teacher, header)
        target = context.folder.path / PACK
        with PackWriter(target, header) as file:
            for part in parts:
                file.write(list(read_pack(part)))
        for part in parts:
            part.unlink()
        written = read_header(target)
        size = target.stat().st_size
        return {
            **found.kept,
            **coverage_of(teacher),
            **written.model_dump(exclude={"format"}),
            "bytes": size,
            "bytes_per_token": round(size / max(1, written.tokens), 1),
        }

    def estimate(self, context: Context) -> Estimate:
        """See `estimate_pack`."""
        return estimate_pack(self, context)

    def _parts(self, context: Context, traces: list[Trace], teacher: Teacher, header: PackHeader) -> list[Path]:
        """A small pack for every chunk, those that are there already left as they are."""
        folder = context.folder.path / PARTS
        parts: list[Path] = []
        with context.log.progress("pack", total=len(traces), unit="traces") as progress:
            for number, chunk in enumerate(_chunks(traces, self.chunk)):
                part = folder / f"{number:06d}.parquet"
                parts.append(part)
                if not part.exists():
                    raise_if_stopped()
                    count_tokens(scored=tokens_read(chunk))
                    tops = teacher.top(chunk, header.top_k)
                    with PackWriter(part, header) as file:
                        file.write([pack_row(trace, top) for trace, top in zip(chunk, tops, strict=True)])
                progress.update(min(len(traces), (number + 1) * self.chunk))
        return parts

    def _student(self) -> str:
        if self.student is not None:
            return self.student
        if isinstance(self.model, str) and ":" not in self.model:
            return self.model
        raise ConfigurationError(
            "a pack of several teachers, or of a served one, needs to know whose tokens it is made of",
            where="student",
            fix="name the student that will learn from it",
        )

    def _terms(self, context: Context, path: Path, traces: list[Trace]) -> dict[str, Json]:
        """Of everyone who wrote the traces, and of everyone who is asked about them."""
        asked = {self.model} if isinstance(self.model, str) else set(self.model.values())
        found = gathered_terms([path], traces)
        for model in sorted(asked):
            found[model] = terms_of(model, context.artefact(model, "model"), self.terms).model_dump()
        return found

    def _named(self) -> str:
        if isinstance(self.model, str):
            return self.model
        return ", ".join(f"{task}: {model}" for task, model in self.model.items())


def weights_digest(model: str) -> str:
    """Hash of a local model's weights, of an adapter and its base; empty for one that is served."""
    if ":" in model and not Path(model).exists():
        return ""
    hasher = hashlib.blake2b(digest_size=16)
    path = resolve_model(model)
    folders = dict.fromkeys((path, weights_folder(path)))
    for shard in (shard for folder in folders for shard in sorted(folder.glob("*.safetensors"))):
        with shard.open("rb") as file:
            while block := file.read(1 << 22):
                hasher.update(block)
    return hasher.hexdigest()


def _chunks(traces: list[Trace], size: int) -> Iterator[list[Trace]]:
    rest = iter(traces)
    while chunk := list(islice(rest, size)):
        yield chunk


plugin: type[Stage] = Pack
