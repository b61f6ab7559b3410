"""Takes one model through the problems of an evaluation, chunk by chunk, and journals what it answered.

A chunk's traces are journalled together: a run that was killed repeats at most one chunk of one model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ponder.backends.local import open_sampler
from ponder.core.protocols import Conversational, Sampler, Verifier
from ponder.core.types import Completion, Json, Outcome, Problem, Sampling
from ponder.learn.dialogue import answers
from ponder.learn.rollout import judge
from ponder.measure.costs.energy import Spending
from ponder.measure.resources import Footprint, footprint, peak_memory_bytes, reset_peak_memory
from ponder.measure.stored import trace_row
from ponder.models.artefacts import artefact_engine
from ponder.models.gguf_header import read_header
from ponder.models.load import resolve_model
from ponder.runs.interrupt import raise_if_stopped
from ponder.runs.ledger import count_completions, look_at_counters
from ponder.runs.log import Progress
from ponder.runs.store import Journal
from ponder.stages._fitting import fitting
from ponder.stages._sizes import size_of
from ponder.stages._watching import watcher


@dataclass(frozen=True, slots=True)
class Answering:
    """Takes one model through the chunks that are not in its journal yet."""

    label: str
    problems: Sequence[Problem]
    verifiers: Mapping[str, Verifier]
    samples: int
    """Completions of every problem."""
    chunk: int
    """Problems that are sampled and journalled together."""
    sampling: Sampling
    journal: Journal
    timing: Journal
    """What depends on the clock, a row per chunk."""
    dialogues: Mapping[str, Conversational] = field(default_factory=dict)
    """Tasks whose problems take several turns."""

    def run(self, name: str, progress: Progress, offset: int) -> None:
        """Sample, judge and store; a model whose journal is complete is not even opened."""
        samples, size = self.samples, self.chunk
        done = min(len(self.journal) // samples, len(self.problems))
        if done < len(self.problems):
            done = done // size * size
        self.journal.truncate(done * samples)
        progress.update(offset + done * samples, model=self.label)
        if done == len(self.problems):
            return
        look_at_counters()
        reset_peak_memory()
        sampler, size_of_model = fitting(open_sampler(name), self.problems, self.sampling), _footprint(name)
        for start in range(done, len(self.problems), size):
            raise_if_stopped()
            chunk = self.problems[start : start + size]
            with Spending() as used:
                groups = answers(
                    sampler,
                    chunk,
                    self.dialogues,
                    samples,
                    self.sampling,
                    watcher(progress, offset + start * samples, model=self.label),
                )
            self.timing.append(self._timing(start, groups, used, sampler, size_of_model))
            rows = [row for problem, group in zip(chunk, groups, strict=True) for row in self._rows(problem, group)]
            self.journal.append_all(rows)
            graded = [row["verdict"]["outcome"] for row in rows if row["verdict"]["outcome"] != Outcome.UNKNOWN]
            share = {"correct": round(graded.count(Outcome.CORRECT) / len(graded), 3)} if graded else {}
            progress.update(offset + start * samples + len(rows), **share)
        getattr(sampler, "close", lambda: None)()

    def _rows(self, problem: Problem, group: Sequence[Completion]) -> Iterator[Json]:
        verifier = self.verifiers[problem.task]
        for index, completion in enumerate(group):
            trace = judge(problem, completion, verifier, {}, self.label)
            yield trace_row(trace, index, verifier)

    def _timing(
        self,
        start: int,
        groups: Sequence[Sequence[Completion]],
        used: Spending,
        sampler: Sampler,
        size: Footprint,
    ) -> Json:
        tokens = count_completions(groups)
        return {
            "model": self.label,
            "start": start,
            "answers": sum(len(group) for group in groups),
            "tokens": tokens.sampled,
            "prompt_tokens": tokens.prompt,
            "seconds": used.seconds,
            **used.fields,
            "peak_memory_bytes": peak_memory_bytes(),
            "parameters": size.parameters,
            "disk_bytes": size.disk_bytes,
            "template": getattr(getattr(sampler, "chat", None), "digest", None),
        }


def _footprint(name: str) -> Footprint:
    """Size of a local model or an artefact; a scripted one weighs nothing, and a served one nothing here."""
    if name.startswith(("scripted:", "openai:")):
        return Footprint(None, 0)
    path = Path(name).expanduser()
    if artefact_engine(path) is not None:
        parameters = read_header(path).parameters if path.is_file() else None
        return Footprint(parameters, footprint(path).disk_bytes)
    return size_of(resolve_model(name))
