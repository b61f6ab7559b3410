"""The contracts between floors. A plug-in is a file that fits one of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from ponder.core.types import (
    Completion,
    Example,
    FloatArray,
    Group,
    Json,
    Messages,
    Metrics,
    Problem,
    Sampling,
    StepVerdict,
    Surrogate,
    TopK,
    Trace,
    Verdict,
)


@runtime_checkable
class Verifier(Protocol):
    """Decides whether a response answers a problem. Pure, and never raises on a response."""

    def __call__(self, problem: Problem, response: str) -> Verdict:
        """Judge the whole response text, thinking included."""
        ...


@runtime_checkable
class StepVerifier(Protocol):
    """Finds which step of a response first went wrong."""

    def steps(self, problem: Problem, response: str) -> list[StepVerdict]:
        """One verdict per step found in the thinking, in order."""
        ...


@runtime_checkable
class FactVerifier(Protocol):
    """Counts what a verdict has no room for."""

    def facts(self, problem: Problem, response: str) -> Json | None:
        """What is stored beside the verdict, so that it can be counted without the verifier; None: nothing to tell."""
        ...


@runtime_checkable
class Task(Protocol):
    """Problems and how to check them."""

    splits: ClassVar[tuple[str, ...]]
    """Names that `problems` accepts."""

    def problems(self, split: str, limit: int, seed: int) -> Iterable[Problem]:
        """At most `limit` problems of a split, the same ones for the same seed."""
        ...

    @property
    def verifier(self) -> Verifier:
        """What filters traces, pays rewards and scores evaluations."""
        ...


Dialogue = Generator[Messages, Completion, str]
"""Yields conversations to be continued, is sent each completion, and returns what the verifier is to judge."""


@runtime_checkable
class Conversational(Protocol):
    """A task whose problems take several turns; `learn/dialogue.py` leads them."""

    def dialogue(self, problem: Problem) -> Dialogue:
        """One conversation about a problem, from its beginning."""
        ...


class Reward(Protocol):
    """A number for something besides correctness: format, language, length."""

    def __call__(self, trace: Trace) -> float:
        """The reward of one trace; higher is better."""
        ...


class Sampler(Protocol):
    """Anything that completes prompts."""

    name: str

    def generate(
        self, prompts: Sequence[Messages], samples: int, sampling: Sampling, watch: Watch | None = None
    ) -> list[list[Completion]]:
        """`samples` completions for every prompt, in the order of the prompts.

        A completion is a function of (weights, prompt, sampling, its index among the samples): never of what else is
        in the call.
        """
        ...


Watch = Callable[[int, int], None]
"""Told (completions finished, tokens generated) now and then while sampling."""


class Reference(Protocol):
    """Scores tokens under fixed weights."""

    def logprobs(self, sequences: Sequence[Sequence[int]]) -> list[FloatArray]:
        """Per sequence (T,): log-probability of each token given those before it, nats; entry 0 is 0."""
        ...


class Teacher(Protocol):
    """A larger model that is asked what it thinks of a student's text, token by token of the student.

    It is given traces with `prompt_tokens` and `tokens` of the student, and answers for the whole sequence
    (prompt and completion, T tokens). Tokens that it cannot speak about (another tokenizer cuts the text elsewhere,
    the prompt) are marked, never guessed.
    """

    def logprobs(self, traces: Sequence[Trace]) -> list[FloatArray]:
        """Per trace (T,): log-probability of each token given those before it, nats; NaN where it cannot say."""
        ...

    def top(self, traces: Sequence[Trace], k: int) -> list[TopK]:
        """Per trace: the k likeliest tokens of every position of the completion, at temperature 1."""
        ...


class Objective(Protocol):
    """Credit assignment: a group of traces becomes per-token streams.

    A class may say more of itself by class variables; where it does not, none of them holds:
    `asks_teacher: ClassVar[bool] = True` makes a stage open a teacher and hand it to every call, and refuse to begin
    without one; `learns_stored` lets traces that the policy did not sample be mixed into its steps; `compares_group`
    says that a group of one teaches nothing.
    """

    @property
    def surrogate(self) -> Surrogate:
        """The shape of the policy loss that the trainer is asked for."""
        ...

    def __call__(
        self, group: Group, reference: Reference | None = None, teacher: Teacher | None = None
    ) -> list[Example]:
        """Examples for the traces that teach something, aligned with their tokens.

        `reference` is the policy that the student should stay near, `teacher` the model that it should become like.
        """
        ...


class Trainer(Protocol):
    """Weights that learn."""

    def step(self, examples: Sequence[Example]) -> Metrics:
        """One optimiser step."""
        ...

    def sampler(self) -> Sampler:
        """A sampler over the current weights, always."""
        ...


@runtime_checkable
class Runtime(Sampler, Protocol):
    """An artefact in the engine that will run it where it is used: a sampler that can be looked into.

    Everything is done by the engine itself, so that what is compared with the trained model is what a user gets.
    """

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Token ids of a text, nothing added; `special` reads names of special tokens as these tokens."""
        ...

    def render(self, messages: Messages, thinking: bool = True) -> str:
        """The text of a conversation with the generation prompt, by the artefact's own chat template."""
        ...

    def prompt(self, messages: Messages) -> list[int]:
        """Token ids that `generate` begins from, BOS included where there is one."""
        ...

    def top(self, sequences: Sequence[Sequence[int]], begins: Sequence[int], k: int) -> list[TopK]:
        """What is expected at each token of given sequences, from position `begins[i]` >= 1 to the end.

        Rows t - begins[i] speak about predicting `sequences[i][t]` from what precedes it. Fewer than k tokens are
        known where the vocabulary is smaller.
        """
        ...

    @property
    def positions(self) -> int | None:
        """Tokens that prompt and completion may have together; None: no limit."""
        ...

    def close(self) -> None:
        """Give back memory, threads and processes; more than once is no error."""
        ...


class Exporter(Protocol):
    """Turns a model folder into an artefact."""

    def __call__(self, model: Path, out: Path) -> Path:
        """Write the artefact and return its path."""
        ...


@runtime_checkable
class Inspector(Protocol):
    """An exporter that can read its artefact back."""

    def differences(self, model: Path, artefact: Path) -> Iterable[tuple[str, str]]:
        """(name, sentence) of everything stored in the artefact that is not the model's; nothing of it is run.

        The names are those of the release gate: `rotation`, `shape`, `weights`, `template`, `tokenizer`, `bos`,
        `end_of_turn`.
        """
        ...
