"""What a model's name stands for in a plan: weights that are here, a shape that is known, or a server."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import AutoConfig

from ponder.core.errors import ConfigurationError, PonderError, ResourceError
from ponder.measure.resources import footprint
from ponder.models.adapters import is_adapter, read_adapter, refuse_chain
from ponder.models.artefacts import artefact_engine
from ponder.models.catalogue import config_of, counted, published
from ponder.models.gguf_header import read_header
from ponder.models.load import HUB_FILES, POCKET, check_folder, resolve_model
from ponder.stages._outlook import Leaves, Refusal
from ponder.stages._stage import Context

SOLUTIONS = "solutions"
SERVED, RECORDED = "openai:", "scripted:"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(frozen=True, slots=True)
class Source:
    """A model as a plan sees it."""

    name: str
    """As it is named."""
    kind: str
    """`local`, `served`, `recorded` or `artefact`."""
    folder: Path | None = None
    """Weights and tokenizer: its own, or of a model of its shape."""
    config: Any = None
    parameters: int = 0
    disk_bytes: int = 0
    """Of its folder."""
    own: bool = True
    """`folder` holds this very model; otherwise its answers say nothing about this one's."""
    leaves: Leaves | None = None
    """Of the stage that will make it."""
    note: str = ""

    @property
    def context(self) -> int | None:
        """Positions that it can read; None: no limit is known."""
        return None if self.config is None else getattr(self.config.get_text_config(), "max_position_embeddings", None)


class Refusals(list[Refusal]):
    """For what a run would stop, collected while a plan goes on."""

    def add(self, what: str, fix: str = "", where: str = "") -> None:
        """Settings that a run would stop for."""
        self.append(Refusal(what, where, fix))

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Note an error of Ponder's in the block instead of raising it."""
        try:
            yield
        except PonderError as error:
            self.append(Refusal.of(error))


def source_of(context: Context, name: str) -> Source:
    """What a name stands for; the stages before this one are looked at first.

    Raises:
        ConfigurationError: If it is nothing, or a folder that would be refused.
        ResourceError: If its shape is not known here.
    """
    if context.stage_path(name.partition("@")[0]) is not None:
        return _made(context, name)
    return _named(name)


def sampled_source(context: Context, name: str) -> Source:
    """What a name stands for where it is only sampled, by which it may be an exported model too.

    Raises:
        ConfigurationError: If it is nothing, or would be refused.
        ResourceError: If its shape is not known here.
    """
    path = Path(name).expanduser()
    if artefact_engine(path) is None:
        return source_of(context, name)
    parameters = read_header(path).parameters if path.is_file() else 0
    disk = footprint(path).disk_bytes
    return Source(name, "artefact", parameters=parameters, disk_bytes=disk, note="an artefact, which was not tried")


def _named(name: str, adapter: Path | None = None) -> Source:
    """What is no stage; as the base of an adapter, it may not be an adapter itself."""
    if name == SOLUTIONS or name.startswith(RECORDED):
        return Source(name, "recorded", note="nothing is sampled here")
    if name.startswith(SERVED):
        return Source(name, "served", note="a served model, which was not asked")
    if name not in POCKET and re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(name).expanduser().is_dir():
        return _from_hub(name, adapter)
    return _from_folder(name, resolve_model(name), adapter)


def _made(context: Context, name: str) -> Source:
    """The model of an earlier stage: itself when it is done, else what has its shape."""
    folder = Path(context.artefact(name, "model"))
    if (folder / "config.json").is_file():
        return _from_folder(name, folder)
    leaves = context.outlook.leaves.get(name.partition("@")[0])
    if leaves is None or not (leaves.model or leaves.config is not None):
        raise ResourceError(f"it is not known what model {name!r} will leave", fix="plan it when that stage is done")
    if leaves.config is not None:
        parameters = counted(leaves.config)
        note = "of the shape that the recipe gives"
        return Source(name, "local", None, leaves.config, parameters, 4 * parameters, False, leaves, note)
    like = source_of(context, leaves.model)
    shape = "" if like.note else f"the shape of {leaves.model}"
    disk = 4 * like.parameters + 1_000_000
    return replace(like, name=name, own=False, leaves=leaves, disk_bytes=disk, note=like.note or shape)


def _from_folder(name: str, folder: Path, adapter: Path | None = None) -> Source:
    if adapter is not None:
        refuse_chain(adapter, folder)
    if is_adapter(folder):
        return _from_adapter(name, folder)
    check_folder(folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        size = footprint(folder)
    except (ValueError, OSError, KeyError) as error:
        raise ConfigurationError(f"this model cannot be read: {error}", where=str(folder)) from error
    return Source(name, "local", folder, config, size.parameters or 0, size.disk_bytes)


def _from_adapter(name: str, folder: Path) -> Source:
    """Its base, of which nothing is fetched, and the adapter's file beside it."""
    stored = read_adapter(folder)
    like = _named(stored.base, folder)
    disk = like.disk_bytes + footprint(folder).disk_bytes
    return replace(like, name=name, folder=folder if like.folder is not None else None, disk_bytes=disk)


def _from_hub(name: str, adapter: Path | None = None) -> Source:
    """A hub id: its cached folder, or its published shape. Nothing is fetched."""
    try:
        folder = Path(snapshot_download(name, allow_patterns=HUB_FILES, local_files_only=True))
        return _from_folder(name, folder, adapter)
    except (LocalEntryNotFoundError, FileNotFoundError):
        pass
    known = published(name)
    if any(os.environ.get(variable, "") not in ("", "0") for variable in OFFLINE):
        raise ResourceError(
            f"the weights of {name!r} are not here, and the hub is switched off",
            where=next(variable for variable in OFFLINE if os.environ.get(variable)),
            fix="download the folder elsewhere and name its path",
        )
    if known is None:
        raise ResourceError(
            f"neither the weights nor the shape of {name!r} are known here",
            fix="download it, or name a model whose shape is in ponder/models/catalogue.py",
        )
    config, parameters = config_of(known), _counted_by_name(known.name)
    fetched = 2 * parameters
    note = f"weights not here: {fetched / 1e9:.1f} GB would be fetched; shape from {known.source}"
    return Source(name, "local", None, config, parameters, fetched, note=note)


@cache
def _counted_by_name(name: str) -> int:
    """Parameters of a model of the catalogue; counting a large one takes a moment."""
    known = published(name)
    assert known is not None
    return counted(config_of(known))
