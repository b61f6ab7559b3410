"""The trainer: one optimiser step from examples, on this machine's model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError, PonderError
from ponder.core.plugins import load_plugin
from ponder.core.protocols import Sampler
from ponder.core.types import Example, Json, Metrics, Surrogate
from ponder.learn.batch import Denominators, micro_batches, pack
from ponder.learn.loss import LossSettings, Totals, backward
from ponder.learn.optimiser import Optimisation, factor_optimizer, make_optimizers, trainable
from ponder.models.head import check_head, longest_shared
from ponder.models.lora import Lora
from ponder.models.precision import rounds

MAX_SKIPS_IN_A_ROW = 3
COUNTERS = ("step_count", "skipped", "skipped_in_a_row")


@dataclass(frozen=True, slots=True)
class TrainerState:
    """Everything a trainer carries from step to step."""

    tensors: dict[str, Tensor]
    """What is trained (weights, or the factors of an adapter) and optimiser state by name, on the CPU."""
    counters: Json


class LocalTrainer:
    """Trains a model in place; its sampler reads the same weights.

    Args:
        model: Loaded with Ponder's attention, float32.
        chat: Its chat format, for the sampler; None where nothing is sampled.
        optimisation: Optimiser settings.
        total_steps: Where the learning-rate decay ends.
        surrogate: Shape of the policy loss; the objective knows it.
        temperature: Of the sampler; divides the trainer's logits too.
        lora: An adapter on the model: then its factors are trained, and the model's weights only carry them.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        chat: Chat | None,
        *,
        optimisation: Optimisation,
        total_steps: int,
        surrogate: Surrogate | None = None,
        temperature: float = 1.0,
        lora: Lora | None = None,
    ) -> None:
        """Refuse what cannot be trained, before any work."""
        if not temperature > 0:
            raise ConfigurationError("a policy sampled greedily (temperature 0) has no gradient", fix="sample at 1.0")
        self.model = model.eval()  # without dropout: the policy that is trained is the one that is sampled
        self.chat = chat
        self.optimisation, self.total_steps = optimisation, total_steps
        self.surrogate, self.temperature = surrogate or Surrogate(), temperature
        self.step_count = self.skipped = self.skipped_in_a_row = 0
        self._rounded = rounds(optimisation.autocast, model.device)
        self._share_up_to = longest_shared(model, self._rounded)
        self.lora = lora
        self._parameters = trainable(model) if lora is None else lora.parameters
        self._optimizers = (
            make_optimizers(model, optimisation) if lora is None else [factor_optimizer(lora, optimisation)]
        )
        check_head(model)

    def step(self, examples: Sequence[Example]) -> Metrics:
        """One optimiser step on all examples together.

        Raises:
            PonderError: If no token carries a weight, or three steps in a row had to be skipped.
        """
        teaching = [e for e in examples if self._teaches(e)] or examples
        batches = micro_batches(teaching, self.optimisation.micro_batch_tokens, self._share_up_to)
        if not batches:
            raise PonderError(
                f"none of the {len(examples)} examples of step {self.step_count} has a token to learn from",
                fix="check that traces are complete and kept by the filter, and that groups differ in reward",
            )
        settings = LossSettings(Denominators.of(examples), self.surrogate, self.temperature, self._rounded)
        totals = Totals()
        tokens = 0
        for rows in batches:
            batch = pack(rows, self.model.device)
            tokens += len(batch.tokens)
            backward(self.model, batch, settings, totals)
        return totals.metrics() | {"tokens": float(tokens)} | self._update(totals.loss)

    def _teaches(self, example: Example) -> bool:
        """Whether an example has a gradient at all; one that has none still counts in the denominators.

        Members without advantage are the rule once a policy has become good, and cost nothing.
        """
        paid = (example.pg_weight != 0) & ((example.advantage != 0) | (self.surrogate.kl_coef > 0))
        taught = example.kd_weight is not None and example.kd_weight.any()
        return bool(paid.any() or example.ce_weight.any() or taught)

    def sampler(self) -> Sampler:
        """A sampler over the weights as they are whenever it is called."""
        engine = load_plugin("engines", "local")
        return engine(self.model, self.chat, name="policy", rounded=self._rounded, policy_step=lambda: self.step_count)

    def state(self) -> TrainerState:
        """A copy of everything that the next step depends on."""
        tensors = {f"model.{name}": p.detach().to("cpu", copy=True) for name, p in self._parameters.items()}
        for name, slot, tensor in self._optimizer_slots():
            tensors[f"optimizer.{slot}.{name}"] = tensor.detach().to("cpu", copy=True)
        counters = {name: getattr(self, name) for name in COUNTERS}
        return TrainerState(tensors, {**counters, "optimizer": self.optimisation.optimizer})

    def restore(self, state: TrainerState) -> None:
        """Continue from `state()` of a trainer with the same model and settings.

        Raises:
            ConfigurationError: If the state is of another model or optimiser; nothing is changed then.
        """
        self._check_origin(state)
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(state.tensors[f"model.{name}"])
        if self.lora is not None:
            self.lora.write()
        owners: dict[int, Optimizer] = {}
        for optimizer in self._optimizers:
            optimizer.state.clear()
            owners |= {id(p): optimizer for group in optimizer.param_groups for p in group["params"]}
        for key, tensor in state.tensors.items():
            kind, _, rest = key.partition(".")
            if kind == "optimizer":
                slot, _, name = rest.partition(".")
                parameter = self._parameters[name]
                owners[id(parameter)].state[parameter][slot] = tensor.to(parameter.device, copy=True)
        for name in COUNTERS:
            setattr(self, name, int(state.counters[name]))

    def _check_origin(self, state: TrainerState) -> None:
        """Refuse a state that is not of this model and this optimiser."""
        own = {f"model.{name}": parameter.shape for name, parameter in self._parameters.items()}
        theirs = {name: t.shape for name, t in state.tensors.items() if name.startswith("model.")}
        strange = sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name))
        if strange:
            raise ConfigurationError(
                f"the checkpoint is of another model: {len(strange)} weights do not fit", where=strange[0]
            )
        optimizer = state.counters["optimizer"]
        if optimizer != self.optimisation.optimizer:
            raise ConfigurationError(
                f"the checkpoint is of another optimizer: {optimizer}, not {self.optimisation.optimizer}",
                fix="keep the optimizer of a run that is to be resumed",
            )

    def _optimizer_slots(self) -> Iterator[tuple[str, str, Tensor]]:
        """(parameter name, slot name, tensor) of everything the optimisers remember."""
        for optimizer in self._optimizers:
            for name, parameter in self._parameters.items():
                for slot, tensor in optimizer.state.get(parameter, {}).items():
                    yield name, slot, tensor

    def _update(self, loss: float) -> Metrics:
        """Clip, check and apply the gradient; a step that is not finite changes nothing but the counters."""
        if self.lora is not None:
            self.lora.collect()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters.values(), self.optimisation.max_grad_norm)
        grad_norm = float(norm)
        share = self.optimisation.lr_share(self.step_count, self.total_steps)
        self.step_count += 1
        if math.isfinite(grad_norm) and math.isfinite(loss):
            self.skipped_in_a_row = 0
            for optimizer in self._optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak_lr"] * share
                optimizer.step()
            if self.lora is not None:
                self.lora.write()
        else:
            self.skipped += 1
            self.skipped_in_a_row += 1
        for parameter in self._parameters.values():
            parameter.grad = None
        if self.skipped_in_a_row == MAX_SKIPS_IN_A_ROW:
            raise PonderError(
                f"the loss or its gradient was not finite {MAX_SKIPS_IN_A_ROW} steps in a row",
                where=f"step {self.step_count - 1}",
                fix=f"lower lr (now {self.optimisation.lr:g}) or lengthen warmup_steps; weights are intact",
            )
        # A norm that is not finite has no place in a JSON journal; the counter tells of it.
        return {
            "grad_norm": grad_norm if math.isfinite(grad_norm) else -1.0,
            "lr": self._optimizers[0].param_groups[0]["peak_lr"] * share,
            "skipped": float(self.skipped),
        }
