"""Pretrains a small model from nothing on procedural text: the way the pocket models are made.

Documents are rendered conversations. In a share of them the answer is worked out aloud, in the others it is
bare, as in text found in the wild; the prompt's own words are trained too, with a smaller weight, so that the
model knows the language it will be asked in. Documents of step s are drawn from (seed, s): the stream never
repeats and never ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from transformers import AutoModelForCausalLM, Qwen3Config

from ponder.core.answers import split_thinking
from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Task
from ponder.core.seeds import derive_seed, python_rng
from ponder.core.types import Example, Json, Problem, Record, Surrogate
from ponder.learn.fit import FitBatch, fit
from ponder.learn.train import LocalTrainer, Optimisation
from ponder.models import attention
from ponder.models.grow import grow
from ponder.models.load import load_model, load_tokenizer, parameter_count, resolve_model, save_model
from ponder.models.tokenizer import train_tokenizer
from ponder.stages._estimates.pretrain import estimate_pretrain
from ponder.stages._stage import Context, Estimate, Stage
from ponder.stages._tasks import TaskChoices, draw_problems, open_tasks


class Shape(Record):
    """Widths and depth of a Qwen3 model with tied embeddings.

    Widths are multiples of 256 where k-quants will need whole blocks.
    """

    hidden_size: int = Field(default=256, ge=32)
    intermediate_size: int = Field(default=256, ge=32)
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)
    kv_heads: int = Field(default=1, ge=1)
    head_dim: int = Field(default=64, ge=8)
    vocab_size: int = Field(default=1024, ge=261)
    max_positions: int = Field(default=2048, ge=64)
    rope_theta: float = Field(default=10_000.0, gt=0)
    embedding_std: float = Field(default=0.02, gt=0)
    """Of the initial embeddings. Five times the default lowered the early loss (docs/results.md)."""

    def config(self) -> Qwen3Config:
        """As transformers writes it.

        Raises:
            ConfigurationError: If the heads do not fit each other.
        """
        if self.heads % self.kv_heads:
            raise ConfigurationError("heads must be a multiple of kv_heads", where="shape")
        return Qwen3Config(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.head_dim,
            max_position_embeddings=self.max_positions,
            rope_parameters={"rope_type": "default", "rope_theta": self.rope_theta},
            tie_word_embeddings=True,
        )

    def build(self, seed: int) -> Any:
        """A freshly initialised model; the same seed gives the same weights."""
        config = self.config()
        attention.register()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME, dtype=torch.float32)
        model.get_input_embeddings().weight.data.mul_(self.embedding_std / config.initializer_range)
        return model


class Pretrain(Stage):
    """Trains a new model, and a tokenizer unless one is named, on documents drawn from procedural tasks."""

    inputs: ClassVar[tuple[str, ...]] = ("model", "tokenizer")

    tasks: TaskChoices = ("skills",)
    model: str | None = None
    """Goes on from this model, and with its tokenizer, instead of from random weights."""
    shape: Shape | None = None
    """Of a new model, a small one by default. With `model`: grow it to this shape first; None keeps its own."""
    tokenizer: str | None = None
    """Model whose tokenizer and template are used; None trains one on the tasks' text."""
    tokenizer_problems: int = Field(default=12_000, ge=100)
    """Problems whose text a new tokenizer learns from."""
    worked_share: float = Field(default=0.25, ge=0.0, le=1.0)
    """Share of documents that reason aloud before they answer."""
    prompt_weight: float = Field(default=0.1, ge=0.0, le=1.0)
    """Loss weight of the prompt's tokens; the response's tokens weigh 1."""
    steps: int = Field(default=1000, ge=1)
    documents_per_step: int = Field(default=64, ge=1)
    optimisation: Optimisation = Optimisation(optimizer="muon", lr=0.02, warmup_steps=20, decay="linear")
    checkpoint_every: int = Field(default=200, ge=1)
    save_dtype: str = Field(default="bfloat16", pattern="^(float32|bfloat16)$")

    def __call__(self, context: Context) -> Json:
        """Train, save `model/`, and report the parameters and the last losses."""
        tasks = open_tasks(self.tasks)
        model, chat = self._start(context, tasks)
        trainer = LocalTrainer(
            model, chat, optimisation=self.optimisation, total_steps=self.steps, surrogate=Surrogate()
        )
        context.log.note(f"{parameter_count(model):,} parameters, vocabulary {len(chat.tokenizer)}")

        def examples_at(step: int) -> FitBatch:
            drawn = self._documents(tasks, context.seed, step)
            return FitBatch([encode_document(chat, *each, self.prompt_weight) for each in drawn])

        summary = fit(
            trainer,
            examples_at,
            steps=self.steps,
            folder=context.folder,
            log=context.log,
            checkpoint_every=self.checkpoint_every,
            key=f"{context.seed}:{self.model_dump_json()}",
        )
        save_model(model, chat, context.folder.path / "model", getattr(torch, self.save_dtype))
        return {**summary, "parameters": parameter_count(model), "template": chat.digest}

    def estimate(self, context: Context) -> Estimate:
        """See `estimate_pretrain`."""
        new = (self.shape or Shape()).config() if self.model is None or self.shape is not None else None

        def documents(step: int) -> list[tuple[str, str]]:
            return self._documents(open_tasks(self.tasks), context.seed, step)

        def encode(chat: Chat, prompt: str, response: str) -> Example:
            return encode_document(chat, prompt, response, self.prompt_weight)

        return estimate_pretrain(self, context, documents, encode, new)

    def _documents(self, tasks: Mapping[str, Task], seed: int, step: int) -> list[tuple[str, str]]:
        """(prompt, response) of one step."""
        drawn = draw_problems(tasks, "train", self.documents_per_step, derive_seed(seed, "documents", step))
        rng = python_rng(seed, "worked", step)
        return [document(problem, worked=rng.random() < self.worked_share) for problem in drawn]

    def _start(self, context: Context, tasks: Mapping[str, Task]) -> tuple[Any, Chat]:
        """The model that is trained, and its chat format."""
        if self.model is not None:
            loaded = load_model(context.artefact(self.model, "model"))
            if self.shape is None:
                return loaded.model, loaded.chat
            large = grow(loaded.model, self.shape.build(derive_seed(context.seed, "weights")))
            large.config.update({key: getattr(loaded.model.config, key) for key in ("eos_token_id", "pad_token_id")})
            large.generation_config = loaded.model.generation_config
            return large, loaded.chat
        chat = self._chat(context, tasks)
        model = (self.shape or Shape()).build(derive_seed(context.seed, "weights"))
        for config in (model.config, model.generation_config):  # other runtimes must know where a turn ends
            config.eos_token_id, config.pad_token_id = chat.end_id, chat.tokenizer.pad_token_id
        return model, chat

    def _chat(self, context: Context, tasks: Mapping[str, Task]) -> Chat:
        """The named tokenizer, or one trained once and kept in the stage's folder."""
        vocab_size = (self.shape or Shape()).vocab_size
        if self.tokenizer is not None:
            chat = Chat(load_tokenizer(resolve_model(context.artefact(self.tokenizer, "model"))))
        else:
            kept = context.folder.path / "tokenizer"
            if not (kept / "tokenizer.json").exists():
                seed = derive_seed(context.seed, "tokenizer")
                problems = draw_problems(tasks, "train", self.tokenizer_problems, seed)
                train_tokenizer(_plain_texts(problems), vocab_size).save_pretrained(kept)
            chat = Chat(load_tokenizer(kept))
        if len(chat.tokenizer) > vocab_size:
            raise ConfigurationError(
                f"the tokenizer has {len(chat.tokenizer)} ids and the model room for {vocab_size}",
                where="shape.vocab_size",
                fix=f"set it to at least {len(chat.tokenizer)}",
            )
        return chat


def document(problem: Problem, *, worked: bool) -> tuple[str, str]:
    """A problem's prompt with its worked solution, or with the bare answer.

    Raises:
        ConfigurationError: If the task writes no worked solutions.
    """
    solution = problem.meta.get("solution")
    if not isinstance(solution, str) or not isinstance(problem.prompt, str):
        raise ConfigurationError(f"the task {problem.task!r} writes no worked solutions to pretrain on")
    return problem.prompt, solution if worked else split_thinking(solution).answer


def encode_document(chat: Chat, prompt: str, response: str, prompt_weight: float) -> Example:
    """A document as cross-entropy streams, prompt weighted lightly."""
    head = chat.prompt(Problem(id="", task="", prompt=prompt).messages)
    tail = chat.response(response)
    tokens = np.asarray(head + tail, dtype=np.int32)
    weight = np.ones(len(tokens), dtype=np.float32)
    weight[: len(head)] = prompt_weight
    weight[0] = 0.0
    nothing = np.zeros(len(tokens), dtype=np.float32)
    return Example(tokens, len(head), weight, nothing, nothing, nothing)


def _plain_texts(problems: list[Problem]) -> Iterator[str]:
    """Text without markup, plus the role words that every template writes."""
    for problem in problems:
        prompt, response = document(problem, worked=True)
        yield f"user\n{prompt}"
        yield "assistant\n" + re.sub(r"</?think>", "", response)


plugin: type[Stage] = Pretrain
