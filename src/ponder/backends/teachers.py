"""Opens teachers: models of this machine, with the student's tokenizer or another, served ones, and several by task."""

from __future__ import annotations

from collections.abc import Mapping

from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Teacher
from ponder.engines._cross_teacher import CrossTeacher
from ponder.engines._openai.served import PREFIX
from ponder.engines._openai.teacher import ServedTeacher
from ponder.engines._teachers import LocalTeacher, RoutedTeacher
from ponder.models.load import LoadedModel, load_model
from ponder.models.sameness import check_same_manners, same_tokenizer


def open_teacher(models: str | Mapping[str, str], student: LoadedModel) -> Teacher:
    """Whoever a student is taught by: one model, or one for each task.

    Args:
        models: A model, or models by the task that a problem names (`*`: every other one). `openai:MODEL@URL` is
            served, and must have the student's tokenizer.
        student: Whose tokens the teacher is asked about.

    Raises:
        ConfigurationError: If a teacher cannot be asked about the student's tokens, or its manners are not the
            student's.
    """
    if isinstance(models, str):
        return _teacher(models, student)
    opened = {model: _teacher(model, student) for model in dict.fromkeys(models.values())}
    return RoutedTeacher({task: opened[model] for task, model in models.items()})


def teacher_of(loaded: LoadedModel) -> Teacher:
    """A loaded model as a teacher of students with its own tokenizer."""
    return LocalTeacher(loaded.model)


def _teacher(model: str, student: LoadedModel) -> Teacher:
    vocabulary = int(student.model.config.get_text_config().vocab_size)
    if model.startswith(PREFIX):
        return ServedTeacher(model)
    try:
        loaded = load_model(model)
        if not same_tokenizer(student.chat.tokenizer, loaded.chat.tokenizer):
            own = LocalTeacher(loaded.model, vocabulary=len(loaded.chat.tokenizer))  # a padded head says nothing
            return CrossTeacher(own, loaded.chat, student.chat)
        check_same_manners(student.chat, loaded.chat)
    except ConfigurationError as error:
        raise ConfigurationError(error.what, where=error.where or f"teacher {model}", fix=error.fix) from error
    return LocalTeacher(loaded.model, vocabulary=vocabulary)


def coverage_of(teacher: Teacher | None) -> dict[str, str]:
    """What a teacher with another tokenizer could not say, in a sentence for the summary; nothing of others."""
    coverage = getattr(teacher, "coverage", None)
    return {} if coverage is None else {"coverage": coverage.sentence()}
