"""LoRA: the gradients, the beginning, the way back, and what lies on the disk."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch.func import functional_call

from _learn import policy_example, random_tokens, text_example, tiny_model
from ponder.backends.local import WithoutAdapter, model_parameters, reference_for, trainer_for
from ponder.core.errors import ConfigurationError, PonderError
from ponder.core.types import Example, Message, Sampling
from ponder.learn.optimiser import Optimisation, factor_optimizer
from ponder.learn.train import LocalTrainer
from ponder.models.adapters import CONFIG, PICKLE, WEIGHTS, merge, read_adapter, save_adapter
from ponder.models.dense import is_dense
from ponder.models.load import load_model, save_model
from ponder.models.lora import Adapter, Lora, targeted
from ponder.models.merged import check_merged
from ponder.models.packed import PackedLayout
from ponder.recipe import build_recipe
from ponder.runner import run_recipe
from ponder.runs.log import Log

ADAPTER = Adapter(rank=4, alpha=8)
PROMPT = [(Message(role="user", content="What is 3 + 4?"),)]


def learner(
    model: Any = None, adapter: Adapter = ADAPTER, optimizer: str = "adamw", lr: float = 0.01, **settings: Any
) -> LocalTrainer:
    model = tiny_model() if model is None else model
    optimisation = Optimisation(optimizer=optimizer, lr=lr, max_grad_norm=1e9, **settings)
    lora = Lora(model, adapter, seed=3)
    return LocalTrainer(model, None, optimisation=optimisation, total_steps=10, lora=lora)


def examples_of(step: int) -> list[Example]:
    return [text_example(random_tokens(n, 31 * step + n)) for n in (4, 9, 14)]


def perturb(lora: Lora) -> None:
    """Factors B as training leaves them: not zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in lora.layers.values():
            layer.b.copy_(torch.randn(layer.b.shape, generator=generator) * 0.05)
    lora.write()


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("family", ["qwen3", "gemma2", "cohere2"])
@pytest.mark.parametrize("micro_batch_tokens", [8, 4096])
def test_gradients_of_the_factors_are_those_of_autograd(family: str, micro_batch_tokens: int) -> None:
    model = tiny_model(family)
    other: Any = tiny_model(family, implementation="eager")
    trained = learner(model, micro_batch_tokens=micro_batch_tokens)
    lora, examples = trained.lora, examples_of(0)
    assert lora is not None
    perturb(lora)
    found: dict[str, torch.Tensor] = {}

    def keep(parameters: Any, *_: Any) -> torch.Tensor:
        found.update({name: p.grad.clone() for name, p in lora.parameters.items() if p.grad is not None})
        return torch.tensor(1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", keep)
        trained.step(examples)
    fresh = Lora(tiny_model(family), ADAPTER, seed=3)  # the step moved the first one's factors
    perturb(fresh)
    starts = {name: p.detach().clone().requires_grad_() for name, p in fresh.parameters.items()}
    changed = {
        f"{name}.weight": layer.base + 2.0 * starts[f"{name}.lora_B"] @ starts[f"{name}.lora_A"]
        for name, layer in lora.layers.items()
    }
    count, loss = sum(len(e.tokens) - 1 for e in examples), torch.zeros(())
    for example in examples:
        ids = torch.tensor(example.tokens, dtype=torch.long)[None]
        scores = functional_call(other, changed, (ids,)).logits[0, :-1]
        loss = loss + F.cross_entropy(scores.float(), ids[0, 1:], reduction="sum") / count
    loss.backward()
    assert found.keys() == starts.keys()
    for name, start in starts.items():
        assert start.grad is not None and bool(start.grad.any())
        assert torch.allclose(found[name], start.grad, rtol=1e-3, atol=1e-5), name


def test_it_begins_as_its_base_to_the_bit_and_the_fast_way_stays_open() -> None:
    model = tiny_model()
    before, fast = weights(model), is_dense(model)
    trained = learner(model)
    assert trained.lora is not None
    trained.lora.write()
    assert fast and is_dense(model)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_only_adapted_weights_move_and_the_base_comes_back_to_the_bit() -> None:
    model = tiny_model()
    before = weights(model)
    trained = learner(model, Adapter(rank=2, targets=("q_proj", "down_proj")))
    losses = [trained.step(examples_of(0))["loss"] for _ in range(5)]
    assert losses[-1] < losses[0]
    moved = {name for name, p in model.named_parameters() if not torch.equal(before[name], p)}
    assert moved == {name for name in before if "q_proj.weight" in name or "down_proj.weight" in name}
    after = weights(model)
    assert trained.lora is not None
    with trained.lora.off():
        assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert all(torch.equal(after[name], p) for name, p in model.named_parameters())
    assert all(p.grad is None for p in model.parameters()), "a gradient of a whole weight was kept"


def test_a_checkpoint_holds_the_factors_alone_and_continues_bit_for_bit() -> None:
    straight = learner(decay="cosine")
    for step in range(2):
        straight.step(examples_of(step))
    state = straight.state()
    kinds = {name.rpartition(".")[2] for name in state.tensors}
    assert kinds == {"lora_A", "lora_B"}
    resumed = learner(decay="cosine")
    resumed.step(examples_of(7))  # what it did before must not matter
    resumed.restore(state)
    for step in range(2, 4):
        assert straight.step(examples_of(step)) == resumed.step(examples_of(step))
    one, other = weights(straight.model), weights(resumed.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(ConfigurationError, match="another model"):
        learner(adapter=Adapter(rank=2)).restore(state)


def test_muon_leaves_the_factors_to_adamw_at_the_outer_rate() -> None:
    trained = learner(optimizer="muon", lr=0.01)
    assert trained.lora is not None
    for given, expected in ((None, 0.001), (0.5, 0.5)):
        settings = Optimisation(optimizer="muon", lr=0.01, outer_lr=given)
        optimizer = factor_optimizer(trained.lora, settings)
        assert isinstance(optimizer, torch.optim.AdamW)
        assert optimizer.param_groups[0]["peak_lr"] == pytest.approx(expected)
    assert trained.step(examples_of(0))["lr"] == pytest.approx(0.001)


@pytest.mark.parametrize("targets", [("query",), ("q_proj", "nothing"), ()])
def test_targets_that_name_nothing_are_refused_with_the_names_there_are(targets: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="down_proj, gate_proj"):
        Lora(tiny_model(), Adapter(targets=targets))


def test_the_head_is_adapted_only_when_named_and_not_when_tied() -> None:
    model = tiny_model()
    assert not any("lm_head" in name for name in targeted(model, "all-linear"))
    assert len(targeted(model, "all-linear")) == 14
    with pytest.raises(ConfigurationError, match="shares its weights"):
        Lora(model, Adapter(targets=("lm_head",)))
    untied = copy.deepcopy(model)
    untied.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    trained = learner(untied, Adapter(rank=4, targets=("lm_head",)))
    losses = [trained.step(examples_of(0))["loss"] for _ in range(4)]
    assert losses[-1] < losses[0]


def test_the_reference_is_the_base_while_the_policy_moves() -> None:
    sequences = [random_tokens(n, n) for n in (5, 8)]
    trained = learner()
    reference = reference_for("unused", trained)
    assert isinstance(reference, WithoutAdapter)
    before = reference.logprobs(sequences)
    trained.step([policy_example(random_tokens(9, 4), 2, 1.0)])
    after = reference.logprobs(sequences)
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


def test_memory_is_counted_in_bytes() -> None:
    trained = learner()
    assert trained.lora is not None
    memory = trained.lora.memory(trained.model)
    counted = sum(tensor.nbytes for name, tensor in trained.state().tensors.items() if name.startswith("optimizer"))
    trained.step(examples_of(0))
    slots = {k: t for k, t in trained.state().tensors.items() if k.startswith("optimizer.exp")}
    assert counted == 0 and sum(t.nbytes for t in slots.values()) == memory["optimiser_bytes"]
    assert memory["optimiser_bytes_full"] == 2 * sum(p.nbytes for p in trained.model.parameters())


@pytest.fixture(scope="module")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pocket model with a trained adapter: `model/` and `adapter/`."""
    folder = tmp_path_factory.mktemp("lora")
    loaded = load_model("pocket-base", device="cpu")
    trainer = trainer_for(loaded, Optimisation(lr=1e-3), 2, adapter=Adapter(rank=4, rslora=True))
    for _ in range(2):
        trainer.step([text_example(random_tokens(12, 5))])
    assert trainer.lora is not None
    save_model(loaded.model, loaded.chat, folder / "model")
    save_adapter(trainer.lora, "pocket-base", folder / "adapter")
    return folder


def test_merged_model_is_base_and_adapter_and_not_the_base(trained_folder: Path) -> None:
    checked = check_merged("pocket-base", trained_folder / "adapter", trained_folder / "model")
    assert checked["gap"] == 0.0 < checked["change"]
    with pytest.raises(PonderError, match="not the base with its adapter") as caught:
        check_merged("pocket-base", trained_folder / "adapter", load_model("pocket-base").path)
    assert caught.value.exit_code == 1


def test_an_inert_adapter_is_refused(tmp_path: Path) -> None:
    loaded = load_model("pocket-base", device="cpu")
    save_adapter(Lora(loaded.model, ADAPTER), "pocket-base", tmp_path / "adapter")
    with pytest.raises(PonderError, match="changes nothing") as caught:
        check_merged("pocket-base", tmp_path / "adapter", loaded.path)
    assert caught.value.exit_code == 1


def test_an_adapter_folder_names_a_model(trained_folder: Path) -> None:
    by_adapter = load_model(str(trained_folder / "adapter"), device="cpu")
    merged = load_model(str(trained_folder / "model"), device="cpu")
    one, other = weights(by_adapter.model), weights(merged.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert by_adapter.chat.digest == merged.chat.digest
    assert model_parameters(str(trained_folder / "adapter")) == model_parameters("pocket-base")
    with pytest.raises(ConfigurationError, match="folder of an adapter"):
        trainer_for(by_adapter, Optimisation(), 1, adapter=ADAPTER)


def test_the_policy_samples_the_weights_of_the_moment() -> None:
    loaded = load_model("pocket-base", device="cpu")
    trainer = trainer_for(loaded, Optimisation(lr=0.02), 5, adapter=ADAPTER)
    sampling = Sampling(temperature=1.0, max_new_tokens=8, seed=1)

    def drift() -> float:
        (completion,) = trainer.sampler().generate(PROMPT, 1, sampling)[0]
        row = [*(completion.prompt_tokens or ()), *(completion.tokens or ())]
        scores = reference_for("pocket-base", trainer).logprobs([row])[0][-len(completion.tokens or ()) :]
        return float(abs(scores - completion.logprobs).max())

    assert drift() < 1e-3
    for _ in range(3):
        trainer.step([text_example(random_tokens(12, 5))])
    assert drift() > 0.01


def _edit(**fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        declared = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(declared | fields))

    return change


def _pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / PICKLE).write_bytes(b"\x80\x04")


def _stranger(folder: Path) -> None:
    save_file(load_file(folder / WEIGHTS) | {"base_model.model.x.inner": torch.ones(1)}, folder / WEIGHTS)


def _infinite(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    next(iter(tensors.values()))[0, 0] = float("inf")
    save_file(tensors, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_pickled, "pickle"),
        (_stranger, "no LoRA factors"),
        (_infinite, "not finite"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"torn"), "cannot be read"),
        (lambda folder: (folder / WEIGHTS).unlink(), "is missing"),
        (lambda folder: (folder / CONFIG).write_text("{"), "not valid JSON"),
        (_edit(use_dora=True), "use_dora"),
        (_edit(peft_type="IA3"), "peft_type"),
        (_edit(bias="all"), "bias"),
        (_edit(r=5), "do not fit each other"),
        (_edit(r="many"), "no number"),
        (_edit(base_model_name_or_path=None), "which model"),
        (_edit(base_model_name_or_path="no-such-model"), "no model"),
        (_edit(base_model_name_or_path="pocket-teacher"), "does not fit this model"),
    ],
)
def test_adapters_that_cannot_be_used_are_refused(
    trained_folder: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name in (CONFIG, WEIGHTS):
        (folder / name).write_bytes((trained_folder / "adapter" / name).read_bytes())
    damage(folder)
    with pytest.raises(ConfigurationError, match=message):
        load_model(str(folder))


def test_peft_reads_what_is_written_and_the_reverse(trained_folder: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    merged = load_model(str(trained_folder / "model"), device="cpu").model
    given: Any = {"input_ids": torch.arange(3, 40)[None], "layout": PackedLayout([37], "cpu")}
    theirs = peft.PeftModel.from_pretrained(load_model("pocket-base", device="cpu").model, trained_folder / "adapter")
    with torch.no_grad():
        assert torch.allclose(theirs(**given).logits, merged(**given).logits, atol=1e-4)
    settings = peft.LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    model = load_model("pocket-base", device="cpu").model
    own = peft.get_peft_model(model, settings)
    own.peft_config["default"].base_model_name_or_path = "pocket-base"
    own.save_pretrained(tmp_path / "peft")
    ours = load_model("pocket-base", device="cpu").model
    merge(ours, read_adapter(tmp_path / "peft"))
    with torch.no_grad():
        assert torch.allclose(own(**given).logits, ours(**given).logits, atol=1e-4)


def test_merge_makes_a_whole_model_of_an_adapter(trained_folder: Path, tmp_path: Path) -> None:
    made = build_recipe({"name": "m", "stage": {"merge": {"adapter": str(trained_folder / "adapter")}}})
    run_recipe(made, tmp_path / "run", Log.silent())
    summary = json.loads((tmp_path / "run" / "merge" / "summary.json").read_text())
    assert summary["base"] == "pocket-base" and summary["adapter"]["gap"] == 0 < summary["adapter"]["change"]
    one, other = (load_file(f / "model/model.safetensors") for f in (tmp_path / "run" / "merge", trained_folder))
    assert all(torch.equal(one[name], other[name]) for name in one)
    refused = build_recipe({"name": "m", "stage": {"merge": {"adapter": str(trained_folder / "model")}}})
    with pytest.raises(ConfigurationError, match="no folder of an adapter"):
        run_recipe(refused, tmp_path / "other", Log.silent())
