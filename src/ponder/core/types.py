"""The records that change hands: Problem -> Completion -> Trace -> Example.

Whatever crosses a file or the wire is a frozen pydantic model that forbids unknown fields. What lives in a hot loop
is a frozen, slotted dataclass over numpy arrays.

Axis letters used in annotations and comments throughout the code base:
    P  problems in a step        G  completions in a group (one problem)
    B  sequences in a batch      T  tokens (of one sequence, or packed)      V  vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]


class Record(BaseModel):
    """Base of everything that is stored: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Message(Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str
    reasoning_content: str | None = None
    """What the assistant thought before it answered, without the tags."""


Messages = Sequence[Message]


class Problem(Record):
    """A question with its gold answer."""

    id: str
    """Unique within its task and split, stable across runs."""
    task: str
    prompt: str | tuple[Message, ...]
    """The user's turn, or a whole conversation that ends with one."""
    answer: JsonValue = None
    """Gold answer in whatever form the task's verifier reads; None is ungradable."""
    meta: dict[str, JsonValue] = Field(default_factory=dict)
    """`skill`, `steps` (difficulty, reasoning steps), `split`, `solution` (worked text) and what the task adds."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation to sample from."""
        if isinstance(self.prompt, str):
            return (Message(role="user", content=self.prompt),)
        return self.prompt


UNWRITTEN: dict[str, Any] = {"waits": 0, "break_loops": False, "commit": "", "json_schema": None}
"""Fields of `Sampling` that are left out of its record at these values."""


class Sampling(Record):
    """How completions are drawn."""

    temperature: float = Field(default=1.0, ge=0.0, le=100.0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    """0 keeps the whole vocabulary."""
    max_new_tokens: int = Field(default=512, ge=1)
    """Tokens of thinking and answer together, end-of-turn included."""
    max_thinking_tokens: int | None = Field(default=None, ge=0)
    """When the thought is this long, `</think>` is forced and the model answers. None: unlimited."""
    seed: int = 0
    stop: tuple[str, ...] = ()
    """Strings that end a completion; the string itself is kept out of the text."""
    waits: int = Field(default=0, ge=0)
    """How often a thought that would close is sent on with "Wait" instead (s1, arXiv:2501.19393, section 3.1)."""
    break_loops: bool = False
    """Force `</think>` on a thought that repeats itself, so that the model answers."""
    commit: str = ""
    """Text that follows a forced `</think>` and begins the answer, such as "The answer is"."""
    json_schema: str | None = None
    """JSON schema, as JSON, that the answer behind the thought is held to while it is drawn."""

    @model_validator(mode="after")
    def _shaped_once(self) -> Self:
        if self.commit and self.json_schema is not None:
            raise ValueError("an answer is begun by `commit` or held to `json_schema`, not both")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not used is not written, so that a record and its hash outlive new fields."""
        row = dump(self)
        return {name: value for name, value in row.items() if name not in UNWRITTEN or value != UNWRITTEN[name]}


class Caps(Record):
    """What asking a model may use up before nothing new is begun; None is no cap."""

    cost: float | None = Field(default=None, ge=0.0)
    """Money, in the currency of the model's price."""
    tokens: int | None = Field(default=None, ge=0)
    """Prompt and completion tokens together."""
    seconds: float | None = Field(default=None, ge=0.0)
    """Of all attempts together."""


class Usage(Record):
    """Token counts of one completion."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    """All generated tokens up to and with the end-of-turn token."""
    thinking_tokens: int = 0
    """Generated tokens inside the thinking tags, tags included."""
    estimated: bool = False
    """The counts were guessed from the text, because whoever sampled it did not say."""


class Finish(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    """The model ended its turn, or a stop string was met."""
    LENGTH = "length"
    """`max_new_tokens` ran out: truncated."""
    REFUSED = "refused"
    """A served model's filter or the model itself declined to answer: stored and counted, never learnt from."""
    ERROR = "error"
    """The sampler failed; the text is what had come until then."""


class Completion(Record):
    """What a sampler returned for one prompt.

    Text keeps its `<think>` tags. Tokens are ours or None: a remote teacher has no tokens of ours.
    """

    text: str
    finish: Finish = Finish.STOP
    prompt_tokens: tuple[int, ...] | None = None
    """Rendered prompt as token ids, generation prompt included."""
    tokens: tuple[int, ...] | None = None
    """Sampled ids, end-of-turn included when it was sampled."""
    logprobs: tuple[float, ...] | None = None
    """Log-probability (nats) of each sampled token under the distribution it was drawn from; 0.0 for forced tokens."""
    forced: tuple[int, ...] = ()
    """Positions in `tokens` that were forced by a thinking budget, not sampled: never trained by a policy loss."""
    usage: Usage = Usage()
    seconds: float = 0.0
    policy_step: int = 0
    """Optimiser steps the policy had taken when this was sampled."""
    temperature: float | None = None
    """The temperature it was drawn at, where the samples of one problem differ in it."""
    model: str = ""
    """What a served model called itself in its reply; empty for models of this machine."""
    raw: str | None = None
    """The text as it was served, where its form was changed to Ponder's (thinking in tags)."""


class Outcome(StrEnum):
    """What a verifier decided."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """The verifier could not decide; in no rate, no mean and no reward."""


class Verdict(Record):
    """A verifier's decision about one response."""

    outcome: Outcome
    reward: float | None = None
    """1.0, 0.0 or partial credit; None when UNKNOWN."""
    answer: str | None = None
    """The final answer that was read from the response."""
    reason: str = ""
    """Why, in a few words: `equal`, `no answer`, `truncated`, `hedged`, ..."""

    @classmethod
    def correct(cls, answer: str | None = None, reason: str = "equal") -> Verdict:
        """The response is right."""
        return cls(outcome=Outcome.CORRECT, reward=1.0, answer=answer, reason=reason)

    @classmethod
    def wrong(cls, answer: str | None = None, reason: str = "different") -> Verdict:
        """The response is wrong, or gives no answer; the reason names which."""
        return cls(outcome=Outcome.WRONG, reward=0.0, answer=answer, reason=reason)

    @classmethod
    def unknown(cls, reason: str, answer: str | None = None) -> Verdict:
        """The verifier cannot decide."""
        return cls(outcome=Outcome.UNKNOWN, answer=answer, reason=reason)


class StepVerdict(Record):
    """A step verifier's decision about one step of a response."""

    index: int
    """0-based position among the steps found in the thinking."""
    text: str
    outcome: Outcome
    reason: str = ""


class Trace(Record):
    """One completion of one problem with its verdict: the unit that is stored, filtered, trained on and counted."""

    problem: Problem
    completion: Completion
    verdict: Verdict
    parts: dict[str, float] = Field(default_factory=dict)
    """Every reward by name; `reward` is their weighted sum. Absent for UNKNOWN verdicts."""
    sampler: str = ""
    """Which model sampled it."""

    @property
    def reward(self) -> float | None:
        """The number that reinforcement learning sees; None is excluded from every mean."""
        return self.parts.get("reward", self.verdict.reward) if self.verdict.reward is not None else None


@dataclass(frozen=True, slots=True)
class Group:
    """All traces of one problem. In training every completion carries `prompt_tokens` and `tokens`."""

    problem: Problem
    traces: tuple[Trace, ...]


@dataclass(frozen=True, slots=True)
class TopK:
    """What a teacher expected at each token of a sequence: its likeliest tokens, and the mass of all others.

    Row t speaks about predicting `tokens[t]` from `tokens[:t]`. A row that says nothing has only ids of -1. Rows with
    fewer than k known tokens are filled with ids of -1 and log-probabilities of minus infinity.
    """

    ids: IntArray  # (T, k) in the student's vocabulary
    logprobs: FloatArray  # (T, k) nats, at temperature 1 over the whole vocabulary
    tail: FloatArray  # (T,) log of the mass outside of the k tokens, nats; minus infinity when nothing is left

    def __post_init__(self) -> None:
        """Refuse streams that do not line up."""
        if self.ids.shape != self.logprobs.shape or len(self.tail) != len(self.ids):
            raise ValueError(f"top-k of {self.ids.shape} ids, {self.logprobs.shape} logprobs, {len(self.tail)} tails")


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence as the trainer sees it: per-token streams, all of length T and aligned with `tokens`.

    `stream[t]` speaks about predicting `tokens[t]` from `tokens[:t]`; only the loss shifts. `pg_weight` says which
    tokens are members of the policy loss and with what weight, `advantage` how much they are worth; they are never
    merged, because a member with advantage zero still counts in the mean and in the KL term.
    """

    tokens: IntArray  # (T,)
    prompt_length: int
    """Leading tokens that are prompt: weightless, and shareable with other examples that begin the same way."""
    ce_weight: FloatArray  # (T,) cross-entropy weight
    pg_weight: FloatArray  # (T,) policy-loss membership
    advantage: FloatArray  # (T,)
    logprob: FloatArray  # (T,) under the policy that sampled, nats
    pg_share: float = 0.0
    """This example's part of the policy loss's denominator (1 for a per-sequence mean, its length for a token mean,
    the constant maximum length for Dr. GRPO)."""
    ref_logprob: FloatArray | None = None  # (T,) under the reference policy, nats
    kd_weight: FloatArray | None = None  # (T,) membership of the divergence from the teacher
    topk: TopK | None = None
    """What the teacher expected; there where `kd_weight` is."""

    def __post_init__(self) -> None:
        """Refuse streams that do not line up."""
        length = len(self.tokens)
        for name in ("ce_weight", "pg_weight", "advantage", "logprob"):
            if len(getattr(self, name)) != length:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries for {length} tokens")
        if (self.kd_weight is None) != (self.topk is None):
            raise ValueError("kd_weight and topk come together")
        for name, stream in (("kd_weight", self.kd_weight), ("topk", None if self.topk is None else self.topk.ids)):
            if stream is not None and len(stream) != length:
                raise ValueError(f"{name} has {len(stream)} rows for {length} tokens")


class Divergence(Record):
    """The shape of the divergence between teacher and student that an objective asks the trainer for."""

    beta: float = Field(default=0.0, ge=0.0, le=1.0)
    """Generalised Jensen-Shannon (arXiv:2306.13649, section 2): 0 is KL(teacher || student), 1 the reverse."""
    temperature: float = Field(default=1.0, gt=0.0, le=100.0)
    """Softens both distributions; the loss is multiplied by its square, so that its gradient keeps its size."""
    weight: float = Field(default=1.0, ge=0.0)
    """Of the divergence beside the other terms of the loss."""


class Surrogate(Record):
    """The shape of the loss that an objective asks the trainer for."""

    divergence: Divergence = Divergence()

    clip_low: float = Field(default=0.2, ge=0.0)
    """The ratio is clipped at 1 - clip_low where that lowers the objective."""
    clip_high: float = Field(default=0.2, ge=0.0)
    """The ratio is clipped at 1 + clip_high where that lowers the objective."""
    kl_coef: float = Field(default=0.0, ge=0.0)
    """Weight of the k3 estimate of KL(policy || reference), nats."""


Metrics = dict[str, float]
Json = dict[str, Any]
