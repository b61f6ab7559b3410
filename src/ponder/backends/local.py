"""This machine: opens samplers, trainers and references for the stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError
from ponder.core.plugins import load_plugin
from ponder.core.protocols import Reference, Runtime, Sampler
from ponder.core.types import Caps, FloatArray, Messages, Surrogate
from ponder.engines._openai.served import PREFIX, read_served
from ponder.engines.local import LocalReference, LocalSampler
from ponder.learn.train import LocalTrainer, Optimisation
from ponder.models.adapters import is_adapter
from ponder.models.artefacts import GGUF, artefact_engine
from ponder.models.gguf_header import read_header
from ponder.models.load import LoadedModel, load_model, load_tokenizer, resolve_model, weights_folder
from ponder.models.lora import Adapter, Lora
from ponder.models.safe_header import read_safe_header

GUESSED_PARAMETERS = 1_000_000
"""For `plan`, when a model does not exist yet."""


def open_sampler(model: str, *, purchases: Path | None = None, caps: Caps | None = None) -> Sampler:
    """A sampler by name.

    Args:
        model: A model for the local engine, an artefact (a `.gguf` file, an exported folder),
            `openai:MODEL@URL?option=value` for one that is served, or `scripted:FILE` for recorded answers.
        purchases: Folder in which a served model's answers are kept, so that none is bought twice.
        caps: What a served model may use up. Whoever samples a local model in pieces keeps a `runs.caps.CapWatch`.
    """
    engine, colon, argument = model.partition(":")
    if colon and engine == "scripted":
        return load_plugin("engines", "scripted")(argument)
    if model.startswith(PREFIX):
        served = read_served(model)
        count = _counting(served.tokenizer) if served.tokenizer else None
        return load_plugin("engines", "openai")(served, purchases=purchases, caps=caps, count=count)
    if (engine := artefact_engine(Path(model).expanduser())) is not None:
        return load_plugin("engines", engine)(Path(model).expanduser())
    loaded = load_model(model)
    return LocalSampler(loaded.model, loaded.chat, name=model)


def open_runtime(path: Path) -> Runtime:
    """An artefact in the engine that will run it.

    Raises:
        ConfigurationError: If there is no engine for it here.
        DataError: If it is damaged.
        ResourceError: If its engine is not installed, or cannot load it.
    """
    engine = artefact_engine(path)
    if engine is None:
        raise ConfigurationError("no engine here runs this artefact", where=str(path))
    return load_plugin("engines", engine)(path)


def _counting(tokenizer: str) -> Callable[[Messages], int]:
    """Counts the tokens of a prompt with a tokenizer that lies here."""
    chat = Chat(load_tokenizer(resolve_model(tokenizer)))
    return lambda messages: len(chat.prompt(messages))


def trainer_for(
    loaded: LoadedModel,
    optimisation: Optimisation,
    total_steps: int,
    surrogate: Surrogate | None = None,
    temperature: float = 1.0,
    adapter: Adapter | None = None,
    seed: int = 0,
) -> LocalTrainer:
    """A trainer over a loaded model's own weights, or over an adapter on them whose factors begin by a seed.

    Raises:
        ConfigurationError: If an adapter is asked for on a model that is itself named by an adapter's folder.
    """
    if adapter is not None and is_adapter(loaded.path):
        raise ConfigurationError(
            "an adapter is trained on a whole model, and this is a folder of an adapter",
            where=str(loaded.path),
            fix="merge it first (stage `merge`), and train on the merged model",
        )
    return LocalTrainer(
        loaded.model,
        loaded.chat,
        optimisation=optimisation,
        total_steps=total_steps,
        surrogate=surrogate or Surrogate(),
        temperature=temperature,
        lora=None if adapter is None else Lora(loaded.model, adapter, seed),
    )


class WithoutAdapter:
    """The model that an adapter is trained on as a reference: the same weights, the change taken out for a moment."""

    def __init__(self, model: PreTrainedModel, lora: Lora) -> None:
        """Score with the model of a trainer."""
        self._scorer, self._lora = LocalReference(model), lora

    def logprobs(self, sequences: Sequence[Sequence[int]]) -> list[FloatArray]:
        """See `ponder.core.protocols.Reference`."""
        with self._lora.off():
            return self._scorer.logprobs(sequences)


def reference_for(model: str, trainer: LocalTrainer) -> Reference:
    """A frozen model that scores tokens: the trainer's own without its adapter, or a copy of what it began as."""
    if trainer.lora is not None:
        return WithoutAdapter(trainer.model, trainer.lora)
    loaded = load_model(model)
    return LocalReference(loaded.model)


def model_parameters(model: str) -> int:
    """Parameters of a model without loading it; a guess when it does not exist yet, and none here when it is served."""
    if model.startswith(PREFIX):
        return 0
    if (path := Path(model).expanduser()).suffix == GGUF and path.is_file():
        return read_header(path).parameters
    try:
        folder = weights_folder(resolve_model(model))
    except ConfigurationError:
        return GUESSED_PARAMETERS
    total = 0
    for shard in sorted(Path(folder).glob("*.safetensors")):
        total += sum(tensor.numbers for tensor in read_safe_header(shard).values())
    return total or GUESSED_PARAMETERS
