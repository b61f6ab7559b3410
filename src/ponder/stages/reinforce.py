"""Reinforcement learning with verifiable rewards: the policy's own answers, paid by the task's verifier.

Every step samples groups from the current weights, judges them with the verifier that also filters traces and scores
evaluations, turns them into credit by an objective, and takes one optimiser step on the sampled tokens themselves.
Under `opd` and `kd` a teacher says what it thinks of every token, and the same stage is on-policy distillation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field, JsonValue

from ponder.backends.local import reference_for, trainer_for
from ponder.backends.teachers import coverage_of, open_teacher
from ponder.core.answers import split_thinking
from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Objective, Teacher
from ponder.core.seeds import derive_seed, numpy_rng
from ponder.core.types import Finish, Group, Json, Metrics, Outcome, Sampling, Trace
from ponder.learn.fit import FitBatch, fit
from ponder.learn.order import indices_at
from ponder.learn.rollout import rollout
from ponder.learn.train import Optimisation
from ponder.learn.tripwires import Tripwires
from ponder.models.load import LoadedModel, load_model
from ponder.models.lora import Adapter
from ponder.report.provenance import write_card
from ponder.runs.pack import PACK
from ponder.stages._alarms import Watch
from ponder.stages._estimates.reinforce import estimate_reinforce
from ponder.stages._learnable import Choice, learnable, traces_path
from ponder.stages._plugins import open_objective, open_reward, says, shipped_that_say
from ponder.stages._saving import save_trained
from ponder.stages._stage import Context, Estimate, Stage
from ponder.stages._tasks import TaskChoices, draw_problems, isolation_of, open_tasks, single_turn, verifiers_of
from ponder.stages._taught import named, snapshots, taught_batch
from ponder.stages._traces.files import read_traces


class Reinforce(Stage):
    """Improves a model on tasks whose answers can be checked."""

    inputs: ClassVar[tuple[str, ...]] = ("model", "teacher", "traces")
    observers: ClassVar[tuple[str, ...]] = ("tripwires",)

    model: str
    """The policy to start from."""
    tasks: TaskChoices = ("skills",)
    split: str = "train"
    problems: int = Field(default=20_000, ge=1)
    """Problems to draw from, over all tasks together; each is seen once before any is seen twice."""
    objective: dict[str, JsonValue] = Field(default={"use": "dr_grpo"})
    """An objective's name under `use`, and its settings."""
    teacher: str | dict[str, str] | None = None
    """The model that an objective such as `opd` or `kd` asks about every token, or models by task (`*`: all others)."""
    traces: str | None = None
    """Under `kd`, stored traces that are mixed in (GKD): an earlier stage, its folder, or a file."""
    on_policy: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of each step's problems that the policy answers itself; as many stored traces take the place of the
    others. The policy answers at least one, so that what it does is seen."""
    rewards: dict[str, float | dict[str, JsonValue]] = Field(default={"correct": 1.0})
    """Weight of every reward by name, or `{weight: 0.2, ...settings}`; the policy is paid their weighted sum."""
    steps: int = Field(default=50, ge=1)
    problems_per_step: int = Field(default=32, ge=1)
    group_size: int = Field(default=8, ge=1)
    temperature: float = Field(default=1.0, gt=0.0)
    max_new_tokens: int = Field(default=512, ge=1)
    max_thinking_tokens: int | None = Field(default=None, ge=0)
    tripwires: Tripwires = Tripwires()
    """When the run pauses because its rewards look wrong; changing one does not begin the run anew."""
    optimisation: Optimisation = Optimisation(optimizer="adamw", lr=1e-4, warmup_steps=5, decay="constant")
    adapter: Adapter | None = None
    """Train a low-rank change (LoRA) and leave the model itself as it is; None trains every weight."""
    checkpoint_every: int = Field(default=10, ge=1)
    snapshots: tuple[int, ...] = ()
    """Steps after which the model is kept, as `STAGE@STEP` for later stages: accuracy against compute in one run."""

    def __call__(self, context: Context) -> Json:
        """Train, save `model/`, and report rewards of the first and last steps."""
        loaded = load_model(context.artefact(self.model, "model"))
        objective = open_objective(self.objective)
        trainer = trainer_for(
            loaded, self.optimisation, self.steps, objective.surrogate, self.temperature, self.adapter, context.seed
        )
        base = context.artefact(self.model, "model")
        reference = reference_for(base, trainer) if objective.surrogate.kl_coef > 0 else None
        tasks = single_turn(open_tasks(self.tasks))
        verifiers = verifiers_of(tasks)
        problems = draw_problems(tasks, self.split, self.problems, derive_seed(context.seed, "problems"))
        if not problems:
            raise ConfigurationError("the tasks gave no problems", where=f"split {self.split}")
        teacher = self._teacher(context, loaded, objective)
        stored = self._stored(context, loaded, objective)
        rewards = {name: open_reward(name, choice) for name, choice in self.rewards.items()}
        watch = Watch(self.tripwires, context.folder, context.log)

        def examples_at(step: int) -> FitBatch:
            fresh = self._fresh(context.seed, step)
            chosen = [problems[i] for i in indices_at(context.seed, len(problems), self.problems_per_step, step)]
            sampling = self._sampling(context.seed, step)
            groups = rollout(trainer.sampler(), chosen[:fresh], verifiers, rewards, self.group_size, sampling)
            metrics = rollout_metrics(groups)
            if (alarm := watch.look(step, groups)) is not None:
                return FitBatch((), metrics, alarm)
            batch = taught_batch(objective, groups, teacher, metrics, reference)
            if fresh == len(chosen):
                return batch
            rest = (self.problems_per_step - fresh) * self.group_size
            again = [stored[i] for i in indices_at(derive_seed(context.seed, "stored"), len(stored), rest, step)]
            return _joined(batch, taught_batch(objective, [Group(t.problem, (t,)) for t in again], teacher))

        summary = fit(
            trainer,
            examples_at,
            steps=self.steps,
            folder=context.folder,
            log=context.log,
            checkpoint_every=self.checkpoint_every,
            after_step=snapshots(self.snapshots, loaded, context),
            key=f"{context.seed}:{self.model_dump_json(exclude=set(self.observers))}",
        )
        summary |= save_trained(trainer, loaded, base, context.folder.path)
        summary |= watch.summary() | isolation_of(tasks) | coverage_of(teacher)
        write_card(context.folder.path, summary)
        return summary

    def _teacher(self, context: Context, student: LoadedModel, objective: Objective) -> Teacher | None:
        """Who is asked.

        Raises:
            ConfigurationError: If the objective needs a teacher and none is named, or the reverse; or the policy is
                sampled at another temperature than the teacher is asked at.
        """
        taught = says(objective, "asks_teacher")
        if taught != (self.teacher is not None):
            what = f"{self.objective['use']} needs a teacher" if taught else "this objective asks no teacher"
            asking = shipped_that_say("asks_teacher")
            raise ConfigurationError(what, where="teacher", fix=f"name one, or use one of {asking}")
        if self.teacher is None:
            return None
        if self.temperature != 1.0:
            raise ConfigurationError(
                "a teacher's probabilities are those at temperature 1, so the policy must be sampled there too",
                where="temperature",
                fix="set temperature to 1.0",
            )
        return open_teacher(named(context, self.teacher), student)

    def _stored(self, context: Context, student: LoadedModel, objective: Objective) -> list[Trace]:
        """Traces that take the place of the policy's own answers.

        Raises:
            ConfigurationError: If they are wanted and not named, or the objective cannot learn from them.
        """
        if self.on_policy == 1.0:
            return []
        if self.traces is None or not says(objective, "learns_stored"):
            raise ConfigurationError(
                "on_policy below 1 mixes stored traces in, for which `traces` and the objective "
                f"{shipped_that_say('learns_stored')} are needed, or one of your own that says `learns_stored`",
                where="on_policy",
            )
        path = traces_path(context, self.traces)
        if path.name == PACK:
            raise ConfigurationError("a pack cannot be mixed in: name the traces it was made of", where="traces")
        return learnable(read_traces(path), student.chat, Choice(), context, path).traces

    def _fresh(self, seed: int, step: int) -> int:
        """Problems of a step that the policy answers itself; a broken share is rounded by repeatable chance."""
        wanted = self.on_policy * self.problems_per_step
        chance = numpy_rng(seed, "fresh", step).random()
        return max(1, int(wanted) + (chance < wanted - int(wanted)))

    def estimate(self, context: Context) -> Estimate:
        """See `estimate_reinforce`."""
        return estimate_reinforce(self, context)

    def sampling_at(self, seed: int) -> Sampling:
        """How the policy is sampled."""
        return Sampling(
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            max_thinking_tokens=self.max_thinking_tokens,
            seed=seed,
        )

    def _sampling(self, seed: int, step: int) -> Sampling:
        return self.sampling_at(derive_seed(seed, "rollout", step))


def _joined(first: FitBatch, second: FitBatch) -> FitBatch:
    """Two parts of one step; what was counted of both is added."""
    scored = {"scored": first.metrics.get("scored", 0.0) + second.metrics.get("scored", 0.0)}
    return FitBatch([*first.examples, *second.examples], {**first.metrics, **scored})


def _has_spread(group: Group) -> bool:
    rewards = {trace.reward for trace in group.traces if trace.reward is not None}
    return len(rewards) > 1


def rollout_metrics(groups: Sequence[Group]) -> Metrics:
    """What a step's samples looked like, before any of them is filtered."""
    traces = [trace for group in groups for trace in group.traces]
    judged = [trace for trace in traces if trace.verdict.outcome is not Outcome.UNKNOWN]
    rewards = [trace.reward for trace in judged if trace.reward is not None]
    count = max(1, len(traces))
    metrics = {
        "reward": float(np.mean(rewards)) if rewards else 0.0,
        "reward_std": float(np.std(rewards)) if rewards else 0.0,
        "correct": sum(t.verdict.outcome is Outcome.CORRECT for t in judged) / max(1, len(judged)),
        "unknown": 1 - len(judged) / count,
        "truncated": sum(t.completion.finish is Finish.LENGTH for t in traces) / count,
        "reasons": sum(bool(split_thinking(t.completion.text).thinking) for t in traces) / count,
        "read": float(sum(group.traces[0].completion.usage.prompt_tokens for group in groups)),
        "sampled": float(sum(t.completion.usage.completion_tokens for t in traces)),
        "completion_tokens": float(np.mean([t.completion.usage.completion_tokens for t in traces])),
        "still_groups": sum(not _has_spread(group) for group in groups) / max(1, len(groups)),
    }
    for name in sorted({name for trace in judged for name in trace.parts if name != "reward"}):
        metrics[f"reward/{name}"] = float(np.mean([t.parts[name] for t in judged if name in t.parts]))
    return metrics


plugin: type[Stage] = Reinforce
