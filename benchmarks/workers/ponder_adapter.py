"""Training and sampling by Ponder: every weight, an adapter as Ponder has it, or one made of modules of its own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.workers.sft_case import documents_of
from benchmarks.workers.turns import case, take_turns
from ponder.backends.local import trainer_for
from ponder.core.types import Message, Sampling
from ponder.learn.train import LocalTrainer, Optimisation
from ponder.models.load import LoadedModel, load_model
from ponder.models.lora import Adapter, targeted
from ponder.stages.pretrain import encode_document


class Beside(nn.Module):
    """A frozen linear layer with the factors beside it, as most libraries have them: y = W x + s B (A x)."""

    def __init__(self, layer: nn.Linear, adapter: Adapter) -> None:
        """Put factors beside a layer, B at zero."""
        super().__init__()
        self.layer, self.scale = layer, adapter.scale
        self.a = nn.Parameter(torch.randn(adapter.rank, layer.in_features) / layer.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(layer.out_features, adapter.rank))

    def forward(self, rows: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return self.layer(rows) + self.scale * F.linear(F.linear(rows, self.a), self.b)


def trainer_of(plan: dict[str, Any], loaded: LoadedModel) -> LocalTrainer:
    """The trainer of a design: `full`, `written` (Ponder's adapter) or `modules`."""
    adapter = Adapter(rank=plan["rank"])
    if plan["design"] == "modules":
        chosen = targeted(loaded.model, adapter.targets)
        loaded.model.requires_grad_(False)
        for name, layer in chosen.items():
            parent, _, last = name.rpartition(".")
            setattr(loaded.model.get_submodule(parent), last, Beside(layer, adapter))
    optimisation = Optimisation(lr=1e-5, autocast=plan["autocast"])
    return trainer_for(loaded, optimisation, 1000, adapter=adapter if plan["design"] == "written" else None)


def main() -> None:
    """One optimiser step a turn, or one call of the trainer's sampler."""
    plan = case()
    loaded = load_model(plan["model"])
    trainer = trainer_of(plan, loaded)
    documents = documents_of({**plan, "steps": 1})
    examples = [encode_document(loaded.chat, prompt, response, 0.0) for prompt, response in documents]
    loaded.chat.stop_ids = frozenset()
    prompts = [(Message(role="user", content=prompt),) for prompt, _ in documents[: plan.get("prompts", 0)]]

    def train() -> dict[str, Any]:
        trainer.step(examples)
        return {"count": sum(len(example.tokens) for example in examples)}

    def sample() -> dict[str, Any]:
        sampling = Sampling(temperature=1.0, max_new_tokens=plan["new_tokens"], seed=0)
        groups = trainer.sampler().generate(prompts, plan["samples"], sampling)
        return {"count": sum(len(one.tokens or ()) for group in groups for one in group)}

    take_turns(sample if prompts else train, "ponder", "torch", "transformers")


main()
