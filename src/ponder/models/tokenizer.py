"""Trains the pocket tokenizer: byte-level BPE, one token a digit, no normaliser.

llama.cpp applies no normaliser, so a tokenizer with one would encode differently after export. The split pattern is the
one of the Qwen family, by which exporters recognise the pre-tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ponder.core.answers import THINK_CLOSE, THINK_OPEN
from ponder.core.errors import ConfigurationError

TURN_OPEN, TURN_CLOSE, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.role == 'assistant' -%}
{%- generation -%}
{%- if message.reasoning_content -%}
{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' -}}
{%- endif -%}
{{- message.content + '<|im_end|>' -}}
{%- endgeneration -%}
{{- '\\n' -}}
{%- else -%}
{{- message.content + '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
"""Past turns show their reasoning: runtimes find the thinking tags by rendering. `generation` marks what trains."""

MIN_VOCABULARY = 256 + 5


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer with chat template, learnt from plain texts (without chat markup).

    Args:
        texts: What the words come from.
        vocab_size: Ids in all, the 256 bytes and five special tokens included.

    Raises:
        ConfigurationError: If `vocab_size` cannot hold the bytes and special tokens.
    """
    if vocab_size < MIN_VOCABULARY:
        raise ConfigurationError(f"a byte-level vocabulary needs at least {MIN_VOCABULARY} ids, not {vocab_size}")
    core = Tokenizer(models.BPE(byte_fallback=False))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 5,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (PAD, TURN_OPEN, TURN_CLOSE)])
    core.add_tokens([AddedToken(t, special=False, normalized=False) for t in (THINK_OPEN, THINK_CLOSE)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=TURN_CLOSE,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
