"""Writes a model as one GGUF file, which llama.cpp and everything built on it runs."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Annotated, Any

import gguf
import numpy as np
from pydantic import AfterValidator, Field

from ponder.core.chat import Chat
from ponder.core.protocols import Exporter
from ponder.core.types import Record
from ponder.exporters._gguf.beside import write_beside
from ponder.exporters._gguf.blocks import check_library, needs_library
from ponder.exporters._gguf.mixes import FORMS, MIXES
from ponder.exporters._gguf.readback import stored_otherwise, told_otherwise
from ponder.exporters._gguf.shape import Shape, read_shape
from ponder.exporters._gguf.template import exported_template
from ponder.exporters._gguf.tensors import Checkpoint, Entry, data_of, entries
from ponder.exporters._gguf.vocabulary import Vocabulary, read_vocabulary
from ponder.models.load import check_folder, load_tokenizer
from ponder.runs.files import atomic_file, require_space

_log = logging.getLogger("ponder.exporters")
OVERHEAD_BYTES = 16 * 2**20
"""For the vocabulary and the table of tensors, generously."""


def _known(form: str) -> str:
    if form not in FORMS:
        raise ValueError(f"choose one of {', '.join(FORMS)}")
    return form


class Gguf(Record):
    """A GGUF file of a Qwen2, Qwen3, Llama, Mistral or SmolLM3 model, written from its safetensors.

    Everything that would be computed, cut into tokens or rendered otherwise there is refused.
    """

    form: Annotated[str, AfterValidator(_known)] = "q8_0"
    """Of matrices: f32, f16, bf16, q8_0 (1.06 bytes a weight), q6_k, q5_k_m, q5_k_s, q4_k_m, q4_k_s, q4_0, q3_k_m or
    q2_k; vectors stay float32."""
    name: str = ""
    """Of the file and the model in it; by default the folder's."""
    importance: dict[str, Any] = Field(default_factory=dict, exclude=True)
    """(columns,) for each tensor's name in the checkpoint: how much each column of a matrix matters."""

    def __call__(self, model: Path, out: Path) -> Path:
        """Write `NAME-FORM.gguf` into a folder, whole or not at all; a file of that name is replaced.

        Beside it: what Ollama and LM Studio want to know.

        Raises:
            ConfigurationError: If architecture, tokenizer or template cannot be expressed.
            DataError: If weights are missing, misshapen or not finite.
            ResourceError: If the disk is full or not ours.
        """
        check_folder(model)
        shape = read_shape(model)
        vocabulary = read_vocabulary(model, shape.vocabulary)
        chat = Chat(load_tokenizer(model))
        template = exported_template(chat)
        checkpoint, wanted = Checkpoint(model), entries(shape, self.form)
        checkpoint.check(wanted, shape.tied)
        if any(needs_library(entry.form, entry.source in self.importance) for entry in wanted):
            check_library()
        _tell_fallen(wanted)
        needed = sum(_bytes(entry) for entry in wanted) + OVERHEAD_BYTES
        require_space(out, needed)
        name = self.name or model.resolve().name
        path = out / f"{name}-{self.form}.gguf"
        with atomic_file(path, needed) as temporary:
            writer = gguf.GGUFWriter(temporary, shape.family)
            try:
                self._describe(writer, name, shape)
                _tokenizer(writer, vocabulary, chat, template)
                for entry in wanted:
                    _announce(writer, entry)
                writer.write_header_to_file()
                writer.write_kv_data_to_file()
                writer.write_ti_data_to_file()
                for entry in wanted:
                    writer.write_tensor_data(data_of(entry, checkpoint, shape, self.importance.get(entry.source)))
            finally:
                writer.close()
        write_beside(path, chat, name)
        return path

    def differences(self, model: Path, artefact: Path) -> list[tuple[str, str]]:
        """See `ponder.core.protocols.Inspector`."""
        shape = read_shape(model)
        chat = Chat(load_tokenizer(model))
        told = gguf.GGUFWriter(None, shape.family)
        self._describe(told, self.name, shape)
        _tokenizer(told, read_vocabulary(model, shape.vocabulary), chat, exported_template(chat))
        expected = {key: value.value for key, value in told.kv_data[0].items()}
        return [*told_otherwise(expected, artefact), *stored_otherwise(shape, Checkpoint(model), artefact)]

    def _describe(self, writer: gguf.GGUFWriter, name: str, shape: Shape) -> None:
        """The sizes under llama.cpp's keys."""
        writer.add_type(gguf.GGUFType.MODEL)
        writer.add_name(name)
        writer.add_file_type(MIXES[self.form].file)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        writer.add_vocab_size(shape.vocabulary)
        writer.add_block_count(shape.layers)
        writer.add_context_length(shape.context)
        writer.add_embedding_length(shape.width)
        writer.add_feed_forward_length(shape.inner)
        writer.add_head_count(shape.heads)
        writer.add_head_count_kv(shape.kv_heads)
        writer.add_key_length(shape.head_dim)
        writer.add_value_length(shape.head_dim)
        writer.add_layer_norm_rms_eps(shape.norm_eps)
        writer.add_rope_dimension_count(shape.head_dim)
        writer.add_rope_freq_base(shape.rope_theta)
        if shape.scaling in ("linear", "yarn"):
            writer.add_rope_scaling_type(gguf.RopeScalingType(shape.scaling))
            writer.add_rope_scaling_factor(shape.scaling_factor)
        if shape.scaling == "yarn":
            writer.add_rope_scaling_orig_ctx_len(shape.original_context)


def _tokenizer(writer: gguf.GGUFWriter, vocabulary: Vocabulary, chat: Chat, template: str) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    writer.add_token_merges(vocabulary.merges)
    tokenizer = chat.tokenizer
    bos = tokenizer.bos_token_id
    if bos is not None:
        writer.add_bos_token_id(bos)
    writer.add_add_bos_token(bos is not None and tokenizer("")["input_ids"][:1] == [bos])
    writer.add_eos_token_id(chat.end_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id)
    writer.add_eot_token_id(chat.end_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(template)


def _tell_fallen(wanted: list[Entry]) -> None:
    """Log which matrices are not stored as the form says, because 256 does not divide their rows."""
    fallen = [entry for entry in wanted if entry.fell_back]
    if fallen:
        kinds = ", ".join(sorted({entry.form.name.lower() for entry in fallen}))
        _log.warning(
            "%d of %d matrices, such as %s, are stored in %s: their rows are no whole blocks of the form",
            len(fallen),
            sum(len(entry.shape) > 1 for entry in wanted),
            fallen[0].name,
            kinds,
        )


def _announce(writer: gguf.GGUFWriter, entry: Entry) -> None:
    """The entry of a tensor in the table, which stands before all data."""
    size = _bytes(entry)
    shape = gguf.quants.quant_shape_to_byte_shape(entry.shape, entry.form)
    writer.add_tensor_info(entry.name, shape, np.dtype(np.uint8), size, raw_dtype=entry.form)


def _bytes(entry: Entry) -> int:
    block, size = gguf.GGML_QUANT_SIZES[entry.form]
    return math.prod(entry.shape) // block * size


plugin: type[Exporter] = Gguf
