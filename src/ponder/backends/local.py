"""This machine: opens samplers, trainers and references for the stages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open

from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError
from ponder.core.plugins import load_plugin
from ponder.core.protocols import Reference, Sampler, Teacher
from ponder.core.types import Surrogate
from ponder.engines._teachers import LocalTeacher, RoutedTeacher
from ponder.engines.local import LocalReference, LocalSampler
from ponder.learn.train import LocalTrainer, Optimisation
from ponder.models.load import LoadedModel, load_model, resolve_model

GUESSED_PARAMETERS = 1_000_000
"""For `plan`, when a model does not exist yet."""


def open_sampler(model: str) -> Sampler:
    """A sampler by name: a model for the local engine, or `scripted:FILE` for recorded answers."""
    engine, colon, argument = model.partition(":")
    if colon and engine == "scripted":
        return load_plugin("engines", "scripted")(argument)
    loaded = load_model(model)
    return LocalSampler(loaded.model, loaded.chat, name=model)


def trainer_for(
    loaded: LoadedModel,
    optimisation: Optimisation,
    total_steps: int,
    surrogate: Surrogate | None = None,
    temperature: float = 1.0,
) -> LocalTrainer:
    """A trainer over a loaded model's own weights."""
    return LocalTrainer(
        loaded.model,
        loaded.chat,
        optimisation=optimisation,
        total_steps=total_steps,
        surrogate=surrogate or Surrogate(),
        temperature=temperature,
    )


def reference_for(model: str) -> Reference:
    """A frozen copy of a model that scores tokens."""
    loaded = load_model(model)
    return LocalReference(loaded.model)


def open_teacher(models: str | Mapping[str, str], student: LoadedModel) -> Teacher:
    """Whoever a student is taught by: one model, or one for each task.

    Args:
        models: A model, or models by the task that a problem names (`*`: every other one).
        student: Whose tokens the teacher is asked about.

    Raises:
        ConfigurationError: If a teacher's tokens or manners are not the student's.
    """
    if isinstance(models, str):
        return _teacher(models, student)
    opened = {model: _teacher(model, student) for model in dict.fromkeys(models.values())}
    return RoutedTeacher({task: opened[model] for task, model in models.items()})


def _teacher(model: str, student: LoadedModel) -> Teacher:
    loaded = load_model(model)
    check_same_manners(student.chat, loaded.chat, model)
    return LocalTeacher(loaded.model, vocabulary=int(student.model.config.get_text_config().vocab_size))


def check_same_manners(student: Chat, teacher: Chat, name: str) -> None:
    """Refuse a teacher that writes in another way than its student: their tokens would be compared in vain.

    Raises:
        ConfigurationError: Names what differs: tokens, template, end of turn, thinking tags.
    """
    looks = {
        "tokens": lambda chat: chat.tokens_digest,
        "chat template": lambda chat: chat.digest,
        "end of turn": lambda chat: chat.end_id,
        "thinking tags": lambda chat: (chat.think_open, chat.think_close, chat.prompt_opens_thinking),
    }
    different = [what for what, look in looks.items() if look(student) != look(teacher)]
    if different:
        raise ConfigurationError(
            f"teacher and student differ in their {', '.join(different)}",
            where=f"teacher {name}",
            fix="choose a teacher of the student's family",
        )


def model_parameters(model: str) -> int:
    """Parameters of a model without loading it; a guess when it does not exist yet."""
    try:
        folder = resolve_model(model)
    except ConfigurationError:
        return GUESSED_PARAMETERS
    total = 0
    for shard in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(shard, framework="pt") as tensors:
            total += sum(torch.Size(tensors.get_slice(key).get_shape()).numel() for key in tensors.keys())  # noqa: SIM118
    return total or GUESSED_PARAMETERS
