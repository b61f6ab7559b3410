"""What learning from one's own answers would take: `reinforce`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ponder.core.plugins import load_plugin
from ponder.core.protocols import Objective, Task
from ponder.core.seeds import derive_seed
from ponder.core.types import Completion, Example, Group, Problem, Trace, Usage, Verdict
from ponder.learn.rollout import Rewards, judge
from ponder.models.load import LoadedModel
from ponder.stages._estimates.account import Account
from ponder.stages._estimates.answering import Answered, answered, model_for_probe
from ponder.stages._estimates.distill import TRAINING_MEMORY_SHARE, add_training, check_learning
from ponder.stages._estimates.drawing import Drawn, Wanted
from ponder.stages._estimates.generate import BLIND_SAMPLE, asked_problems, spread
from ponder.stages._estimates.machine import GUESS_SHARE, training_seconds
from ponder.stages._estimates.sources import Source, source_of
from ponder.stages._estimates.training import Trained, train
from ponder.stages._outlook import Bounds, Leaves
from ponder.stages._plugins import open_objective, open_reward, says
from ponder.stages._stage import Context, Estimate
from ponder.stages._tasks import verifiers_of

if TYPE_CHECKING:
    from ponder.stages.reinforce import Reinforce

TEACHING_SHARE = 0.6
"""Groups whose answers differ in reward, for a policy that is not made yet; the others cost no training."""
DRIFT_SHARE = 0.25
"""A policy's answers become longer or shorter while it learns."""
JUDGED_AGAIN = 64
"""Completions that are judged to learn what that takes."""
TYPICAL_PROMPT = 150


@dataclass(frozen=True, slots=True)
class Tried:
    """One step, as far as it could be tried."""

    sampled: Answered
    trained: Trained | None
    judging: float
    """Seconds for a completion, where the policy's own were not judged."""


def estimate_reinforce(stage: Reinforce, context: Context) -> Estimate:
    """Every step samples groups and learns from them."""
    account = Account(rows=stage.steps * stage.problems_per_step * stage.group_size)
    tasks, _ = asked_problems(account, context, stage, total=stage.problems, decontaminate=False)
    check_learning(account, stage)
    objective: Objective | None = None
    with account.refusals.collecting():
        objective = open_objective(stage.objective)
        _check_groups(account, stage, objective)
    rewards: Rewards = {}
    with account.refusals.collecting():
        rewards = {name: open_reward(name, choice) for name, choice in stage.rewards.items()}
    few = stage.problems_per_step if context.outlook.probe else min(BLIND_SAMPLE, stage.problems_per_step)
    problems = spread(tasks, stage.split, few, context.seed)
    with account.refusals.collecting():
        source = source_of(context, stage.model)
        if source.kind != "local":
            account.refusals.add("only a model of this machine can be trained", where="model")
            return account.estimate(context)
        tried = _try(stage, context, account, source, problems, tasks, objective, rewards)
        _add(account, stage, source, tried)
        if objective is not None and objective.surrogate.kl_coef > 0 and stage.adapter is None:
            account.needs(account.memory_bytes + 4 * source.parameters)
            account.notes.append("a frozen copy of the model is held as the reference")
        _add_teachers(account, context, stage, tried)
        correct = tried.sampled.drawn.correct if tried.sampled.drawn is not None else None
        account.leaves = Leaves(model=stage.model, lengths=tried.sampled.lengths, correct=correct)
    return account.estimate(context)


def _check_groups(account: Account, stage: Reinforce, objective: Objective) -> None:
    """A group of one has no spread: an advantage that is relative to the group is nothing."""
    if stage.group_size == 1 and says(objective, "compares_group"):
        account.refusals.add(
            f"{stage.objective['use']} compares the answers of a group, and a group of 1 has nothing to compare",
            "set group_size to 2 or more",
            "group_size",
        )
    choices = stage.rewards.values()
    paid = any(each.get("weight", 1.0) if isinstance(each, Mapping) else each for each in choices)
    if not paid and not says(objective, "asks_teacher"):
        account.refusals.add("no reward has a weight, so nothing is learnt", "give one a weight", "rewards")


def _try(
    stage: Reinforce,
    context: Context,
    account: Account,
    source: Source,
    problems: list[Problem],
    tasks: Mapping[str, Task],
    objective: Objective | None,
    rewards: Rewards,
) -> Tried:
    """Sample and learn for half of the time each."""
    half = context.outlook.seconds / 2
    sampling = stage.sampling_at(derive_seed(context.seed, "plan"))
    rows = stage.problems_per_step * stage.group_size
    verifiers = verifiers_of(tasks)
    wanted = Wanted(problems, stage.group_size, sampling, rows, verifiers, rewards=rewards)
    sampled = answered(context, source, wanted, rows, account.refusals, half)
    loaded = model_for_probe(source, TRAINING_MEMORY_SHARE) if context.outlook.probe else None
    if loaded is None or objective is None or sampled.drawn is None or not problems:
        return Tried(sampled, None, 0.0)
    groups, judging = _groups(sampled.drawn, loaded, problems, tasks, rewards, stage.group_size)
    scored = load_plugin("objectives", "dr_grpo")() if says(objective, "asks_teacher") else objective
    examples = [example for group in groups for example in scored(group, None)]
    teaching = _whole_step(examples, rows)
    if not teaching:
        return Tried(sampled, None, judging)
    trained = train(
        loaded, teaching, rows, stage.optimisation, half, scored.surrogate.model_copy(update={"kl_coef": 0.0}),
        stage.temperature, stage.adapter,
    )  # fmt: skip
    return Tried(sampled, trained, judging)


def _groups(
    drawn: Drawn,
    loaded: LoadedModel,
    problems: Sequence[Problem],
    tasks: Mapping[str, Task],
    rewards: Rewards,
    size: int,
) -> tuple[list[Group], float]:
    """The policy's own groups; or groups of the expected lengths, of which some differ in reward."""
    if drawn.traces:
        traces = list(drawn.traces)
        return [Group(traces[i].problem, tuple(traces[i : i + size])) for i in range(0, len(traces), size)], 0.0
    rng = np.random.default_rng(0)
    groups: list[Group] = []
    for number, problem in enumerate(problems):
        prompt = tuple(loaded.chat.prompt(problem.messages))
        lengths = rng.choice(np.asarray(drawn.lengths), size)
        differs = number < TEACHING_SHARE * len(problems)
        made = [_made_up(problem, prompt, int(n), right=differs and i % 2 == 0) for i, n in enumerate(lengths)]
        groups.append(Group(problem, tuple(made)))
    return groups, _judging(problems, tasks, rewards)


def _made_up(problem: Problem, prompt: tuple[int, ...], length: int, *, right: bool) -> Trace:
    """A completion of a length: what it says does not matter for how long learning from it takes."""
    tokens = tuple(prompt[i % len(prompt)] for i in range(length))
    usage = Usage(prompt_tokens=len(prompt), completion_tokens=length)
    completion = Completion(text="", prompt_tokens=prompt, tokens=tokens, logprobs=(-1.0,) * length, usage=usage)
    verdict = Verdict.correct() if right else Verdict.wrong()
    return Trace(problem=problem, completion=completion, verdict=verdict, parts={"reward": float(right)})


def _judging(problems: Sequence[Problem], tasks: Mapping[str, Task], rewards: Rewards) -> float:
    """Seconds that judging a worked solution takes."""
    verifiers = verifiers_of(tasks)
    texts = [(p, str(p.meta.get("solution") or p.answer)) for p in problems[:JUDGED_AGAIN]]
    began = time.perf_counter()
    for problem, text in texts:
        judge(problem, Completion(text=text), verifiers[problem.task], rewards)
    return (time.perf_counter() - began) / max(1, len(texts))


def _whole_step(examples: Sequence[Example], rows: int) -> list[Example]:
    """Examples of as many groups as a step has; empty when none of them teaches anything."""
    if not any(((e.pg_weight != 0) & (e.advantage != 0)).any() or e.ce_weight.any() for e in examples):
        return []
    return [examples[i % len(examples)] for i in range(max(rows, len(examples)))][: max(rows, 1)]


def _add(account: Account, stage: Reinforce, source: Source, tried: Tried) -> None:
    steps, sampled = stage.steps, tried.sampled
    account.notes.append(sampled.note)
    account.probed |= sampled.probed
    # The bounds of one step hold for the mean of all: what is not known is the same in every one.
    account.seconds.append(sampled.seconds.times(steps))
    account.seconds.append(Bounds.around(steps * sampled.rows * tried.judging, DRIFT_SHARE))
    account.seconds.append(Bounds.around(0.0, 0.0))
    account.prompt += sampled.prompt_tokens.expected * steps
    account.sampled += sampled.sampled_tokens.expected * steps
    account.needs(sampled.memory_bytes)
    prompts = sampled.prompt_tokens.expected / max(1, sampled.rows) * stage.problems_per_step
    packed = (sampled.sampled_tokens.expected + (prompts or TYPICAL_PROMPT)) * TEACHING_SHARE
    whole = Bounds(float(steps), float(steps), float(steps))
    add_training(account, source, stage, whole, tried.trained, packed)
    if tried.trained is None:
        account.notes.append(f"{TEACHING_SHARE:.0%} of the groups expected to teach")
    spread_of_drift = account.seconds[0].expected * DRIFT_SHARE
    account.seconds.append(Bounds(-spread_of_drift, 0.0, spread_of_drift))


def _add_teachers(account: Account, context: Context, stage: Reinforce, tried: Tried) -> None:
    """Models that are asked about every token: held beside the policy, and read once for every completion."""
    teacher = stage.teacher
    for name in () if teacher is None else [teacher] if isinstance(teacher, str) else teacher.values():
        asked = source_of(context, name)
        read = (tried.sampled.sampled_tokens.expected + tried.sampled.prompt_tokens.expected) * stage.steps
        if asked.kind == "local":
            account.needs(account.memory_bytes + 4 * asked.parameters)
            seconds = training_seconds(read, asked.parameters) / 3
            account.seconds.append(Bounds.around(seconds, GUESS_SHARE))
        account.notes.append(f"the teacher {name.partition('?')[0]} reads every completion")
