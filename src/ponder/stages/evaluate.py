"""Compares models on the same problems with the verifier that also filtered traces and paid rewards.

Every model goes through the same chunks of the same problems. What depends on the clock is kept in files of its
own, so that the traces and `results.json` of a resumed run equal those of an uninterrupted one byte for byte.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ponder.core import answers as answer_rules
from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Task
from ponder.core.seeds import derive_seed
from ponder.core.types import Json, Problem, Sampling
from ponder.engines._openai.served import PREFIX
from ponder.measure.budgets import Side, alone_rows, curve_rows, sides_of
from ponder.measure.costs.answers import cost_rows
from ponder.measure.costs.prices import price_sheet
from ponder.measure.games import game_rows, played_games
from ponder.measure.lengths import length_rows
from ponder.measure.rating import HISTOGRAM, add_percentiles
from ponder.measure.resources import machine
from ponder.measure.scores import default_pairs, model_rows, pair_rows
from ponder.measure.stored import latest_chunks, stored_answers
from ponder.runs.store import Journal, StageFolder
from ponder.sandbox.probe import require
from ponder.stages._alone import time_alone, times_alone
from ponder.stages._answering import Answering
from ponder.stages._estimates.evaluate import estimate_evaluate
from ponder.stages._protocol import ProtocolName, described, filled
from ponder.stages._stage import Context, Estimate, Stage
from ponder.stages._tasks import TaskChoices, dialogues_of, isolation_of, open_tasks, verifiers_of

CHUNK_COMPLETIONS = 256
"""Completions that are sampled and journalled together: enough to fill a batch, little to lose in a kill."""


def _as_labels(value: Any) -> Any:
    """A list of names as a mapping: each is labelled by itself, a folder by its last telling part."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple):
        return value
    labels = [_label(str(name)) for name in names]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ConfigurationError(
            f"two models would be called {twice!r}",
            where="models",
            fix="write a mapping: {LABEL: MODEL, ...}",
        )
    return dict(zip(labels, names, strict=True))


def _as_numbers(value: Any) -> Any:
    """`0,16,32` on a command line is three budgets."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


Budgets = Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_as_numbers)]


def _label(name: str) -> str:
    parts = [part for part in Path(name).parts if part not in ("/", ".", "..")]
    if not Path(name).is_dir() or not parts:
        return name
    return parts[-2] if parts[-1] == "model" and len(parts) > 1 else parts[-1]


class Evaluate(Stage):
    """Samples every model on the same problems, judges the answers and counts them with their uncertainty.

    `seed` is that of the problems and of sampling, 0 when it is not set.
    """

    inputs: ClassVar[tuple[str, ...]] = ("models",)

    models: Annotated[dict[str, str], BeforeValidator(_as_labels), Field(min_length=1)]
    """Label of each model and its name or the earlier stage that made it; a list labels each by its name. The
    first is what the others are compared with."""
    tasks: TaskChoices = ("skills",)
    splits: tuple[str, ...] = ("test",)
    limit: int = Field(default=500, ge=1)
    """Problems of every task and split."""
    samples: int = Field(default=1, ge=1)
    """Completions of every problem; more than one adds pass@k and maj@k."""
    temperature: float | None = Field(default=None, ge=0.0)
    """None: 0 (greedy) for one sample, 1 for several."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    max_new_tokens: int = Field(default=512, ge=1)
    max_thinking_tokens: int | None = Field(default=None, ge=0)
    """Force `</think>` on a thought of so many tokens. None: unlimited."""
    budgets: Budgets = ()
    """Measure every model at these thinking budgets too, and each one's time alone: a curve of accuracy."""
    waits: int = Field(default=0, ge=0)
    """How often a thought that would close is sent on with "Wait"."""
    break_loops: bool = False
    """Force `</think>` on a thought that repeats itself."""
    commit: str = ""
    """Text that begins an answer whose thought was closed by force."""
    require_isolation: Literal["bubblewrap", "lockdown", "wasm"] | None = None
    """Refuse to run code that a model wrote behind a weaker wall than this; None takes the strongest there is."""
    protocol: ProtocolName | None = None
    """Sampling as published with the benchmark, or greedy; what is set above replaces single figures."""

    @model_validator(mode="before")
    @classmethod
    def _by_protocol(cls, config: Any) -> Any:
        return filled(config)

    @model_validator(mode="after")
    def _budgets_that_can_be_kept(self) -> Self:
        served = next((name for name in self.models.values() if name.startswith(PREFIX)), None)
        if self.budgets and served is not None:
            raise ValueError(f"the thought of a served model ({served}) cannot be closed for it: leave budgets out")
        return self

    def __call__(self, context: Context) -> Json:
        """Write a journal of traces per model, `results.json` and `timing.json`."""
        require(self.require_isolation)
        tasks = open_tasks(self.tasks)
        problems = self._problems(tasks)
        plan = self._plan(tasks, problems)
        journals = {entry["label"]: context.folder.journal(entry["traces"]) for entry in plan["models"]}
        timing, alone = context.folder.journal("timing"), context.folder.journal("alone")
        _start_over_when_changed(context.folder, plan, [*journals.values(), timing, alone])
        _store_histogram(context.folder, tasks)
        verifiers = verifiers_of(tasks)
        total = len(problems) * self.samples * len(journals)
        with context.log.progress("evaluate", total=total, unit="answers") as progress:
            for number, (side, journal) in enumerate(zip(self.sides, journals.values(), strict=True)):
                sampling, dialogues = self._sampling_of(side), dialogues_of(tasks)
                answering = Answering(
                    side.label, problems, verifiers, self.samples, self.problems_per_chunk, sampling, journal, timing,
                    dialogues,
                )  # fmt: skip
                name = context.artefact(self.models[side.model], "model")
                answering.run(name, progress, number * len(problems) * self.samples)
                if self.budgets:
                    time_alone(side.label, name, problems, sampling, alone)
        return self._results(context.folder, plan, journals, timing)

    def estimate(self, context: Context) -> Estimate:
        """See `estimate_evaluate`."""
        return estimate_evaluate(self, context, self._problems)

    @property
    def fixed_seed(self) -> int:
        """Of the problems and of sampling: not the run's, so that different runs are measured on one set."""
        return self.seed or 0

    @property
    def sampling(self) -> Sampling:
        """How every model is sampled."""
        default = 0.0 if self.samples == 1 else 1.0
        return Sampling(
            temperature=default if self.temperature is None else self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_new_tokens=self.max_new_tokens,
            max_thinking_tokens=self.max_thinking_tokens,
            waits=self.waits,
            break_loops=self.break_loops,
            commit=self.commit,
            seed=derive_seed(self.fixed_seed, "evaluate"),
        )

    @property
    def sides(self) -> list[Side]:
        """Every model, at every thinking budget."""
        return sides_of(list(self.models), self.budgets)

    def _sampling_of(self, side: Side) -> Sampling:
        return (
            self.sampling
            if side.budget is None
            else self.sampling.model_copy(update={"max_thinking_tokens": side.budget})
        )

    @property
    def problems_per_chunk(self) -> int:
        """Fixed by the configuration, so that a resumed run is cut where the first one was."""
        return max(1, CHUNK_COMPLETIONS // self.samples)

    def _problems(self, tasks: Mapping[str, Task], limit: int | None = None) -> list[Problem]:
        """The problems of every task and split, each marked with its split; a smaller `limit` gives the first ones."""
        problems: list[Problem] = []
        for name, task in tasks.items():
            for split in self.splits:
                if split not in task.splits:
                    raise ConfigurationError(
                        f"task {name!r} has no split {split!r}",
                        where="splits",
                        fix=f"it has: {', '.join(task.splits)}",
                    )
                for problem in task.problems(split, self.limit if limit is None else limit, self.fixed_seed):
                    problems.append(problem.model_copy(update={"meta": {**problem.meta, "split": split}}))
        keys = [(problem.task, problem.meta["split"], problem.id) for problem in problems]
        if not problems or len(set(keys)) < len(keys):
            raise ConfigurationError(
                "two problems have one id" if problems else "the tasks gave no problems", where="tasks"
            )
        return problems

    def _plan(self, tasks: Mapping[str, Task], problems: Sequence[Problem]) -> Json:
        """What is measured and how; `id` changes with anything that could change a score."""
        measured = {
            "tasks": list(self.tasks),
            "splits": list(self.splits),
            "limit": self.limit,
            "samples": self.samples,
            "seed": self.fixed_seed,
            "sampling": self.sampling.model_dump(mode="json"),
            "problems": len(problems),
            "problems_digest": _digest(problem.model_dump_json() for problem in problems),
            "rules_digest": _digest(_sources(tasks)),
            **isolation_of(tasks),
        }
        if self.protocol is not None:
            measured["protocol"] = described(self.protocol, tasks, self.sampling, self.samples)
        inside = [steps for task in tasks.values() if isinstance(steps := getattr(task, "max_steps", None), int)]
        models = [
            {
                "label": side.label,
                "name": self.models[side.model],
                "traces": f"traces-{index}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', side.label)[:60].removesuffix('.jsonl')}",
            }
            for index, side in enumerate(self.sides, 1)
        ]
        identity = _digest([repr(sorted(measured.items()))])
        return {"id": identity, **measured, "inside_steps": min(inside, default=None), "models": models}

    def _results(self, folder: StageFolder, plan: Json, journals: Mapping[str, Journal], timing: Journal) -> Json:
        """Count everything from the journals, never from memory, so that a report can count it again."""
        answers = [answer for journal in journals.values() for answer in stored_answers(journal.rows())]
        models = add_percentiles(model_rows(answers), folder.read_json(HISTOGRAM))
        pairs = pair_rows(answers, default_pairs([side.label for side in self.sides]))
        more = {key: plan[key] for key in ("protocol", "isolation") if key in plan}
        games = game_rows(played_games(row for journal in journals.values() for row in journal.rows()))
        played = {"games": games} if games else {}
        curve = {"curve": curve_rows(models, self.sides)} if self.budgets else {}
        counted = {"models": models, "pairs": pairs, "lengths": length_rows(answers), **curve, **played}
        folder.write_json("results", {"evaluation": plan["id"], **more, **counted})
        names = {side.label: self.models[side.model] for side in self.sides}
        costs = cost_rows(latest_chunks(timing.rows()), answers, price_sheet(), names)
        alone = {"alone": alone_rows(times_alone(folder.journal("alone")))} if self.budgets else {}
        folder.write_json("timing", {"machine": machine(), "costs": costs, **alone})
        for journal in (*journals.values(), timing):
            journal.seal()
        overall = [row for row in models if row["task"] is None and row["steps"] is None]
        told = {"evaluation": plan["id"], "problems": plan["problems"], "models": overall, "pairs": pairs}
        return told | curve | played


def _store_histogram(folder: StageFolder, tasks: Mapping[str, Any]) -> None:
    """Keep the ratings of a task's contestants, where it was given any, so that a report can place a rating again."""
    found = (task.users() for task in tasks.values() if hasattr(task, "users"))
    if users := next((users for users in found if users is not None), None):
        folder.write_json(HISTOGRAM, users)


def _start_over_when_changed(folder: StageFolder, plan: Json, journals: Sequence[Journal]) -> None:
    """Traces of another evaluation are never continued."""
    if folder.read_json("evaluation") != plan:
        for journal in journals:
            journal.truncate(0)
        folder.write_json("evaluation", plan)


def _sources(tasks: Mapping[str, Task]) -> Iterator[str]:
    """The code that decides what is right: each task's verifier, and the rules that read an answer."""
    judges = [task.verifier for task in tasks.values()]
    waiting = [inspect.getmodule(judge if inspect.isroutine(judge) else type(judge)) for judge in judges]
    waiting += [module for judge in judges for module in getattr(judge, "rules", ())]
    modules: set[ModuleType] = {answer_rules}
    while waiting:  # what a verifier takes from the files beside it decides as well
        module = waiting.pop()
        if module is None or module in modules:
            continue
        modules.add(module)
        folder = module.__name__.rpartition(".")[0]
        near = (getattr(value, "__module__", None) for value in vars(module).values())
        beside = (name for name in near if isinstance(name, str) and folder and name.startswith(f"{folder}."))
        waiting += map(sys.modules.get, beside)
    for module in sorted(modules, key=lambda module: module.__name__):
        yield module.__name__ + inspect.getsource(module)
    yield from _private_files(modules)


def _private_files(modules: Iterable[ModuleType]) -> Iterator[str]:
    """Every file of the private packages among them: what their workers import decides as well."""
    packages = {module.__package__ or "" for module in modules}
    for package in sorted(name for name in packages if name.rpartition(".")[2].startswith("_")):
        for folder in sys.modules[package].__path__:
            for file in sorted(Path(folder).glob("*.py")):
                yield f"{package}.{file.stem}" + file.read_text(encoding="utf-8")


def _digest(texts: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


plugin: type[Stage] = Evaluate
