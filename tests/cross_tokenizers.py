"""Tokenizers of several kinds, trained on the same few sentences, for the tests of teachers across tokenizers."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ponder.core.chat import Chat
from ponder.models.tokenizer import CHAT_TEMPLATE, train_tokenizer

TEXTS = [
    "<think>\nAnna has 12 coins. She finds 7 more: 12 + 7 = 19.\nThen Bob gives her 8: 19 + 8 = 27.\n</think>\n\n",
    "The answer is 27. Every cat is an animal, and no animal is a stone; so no cat is a stone.",
    "If it rains the grass gets wet. The grass is dry, therefore it did not rain. Déjà vu, naïve café.",
] * 20
SPACE = "▁"
MARKED = {"eos_token": "</s>", "chat_template": CHAT_TEMPLATE.replace("<|im_end|>", "</s>")}


@cache
def byte_level(size: int) -> Any:
    return train_tokenizer(TEXTS, size)


def normalised(size: int, normaliser: Any) -> Any:
    tokenizer = train_tokenizer(TEXTS, size)
    tokenizer.backend_tokenizer.normalizer = normaliser
    return tokenizer


@cache
def sentence_piece(scheme: str = "first", tags: bool = True) -> Any:
    """Unigram with a mark for spaces and byte fallback; with or without thinking tags as tokens."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    core.train_from_iterator(
        TEXTS, trainers.UnigramTrainer(vocab_size=150, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    )
    state = json.loads(core.model.__getstate__())
    pieces = [(piece, score) for piece, score in state["vocab"]] + [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    core.model = models.Unigram(pieces, state["unk_id"], byte_fallback=True)
    core.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme), decoders.Fuse()]
    )
    return _finished(core, tags)


@cache
def llama_like() -> Any:
    """The older form of SentencePiece: a normaliser writes the marks, and the decoder strips the first."""
    core = sentence_piece("never").backend_tokenizer
    copy = Tokenizer.from_str(core.to_str())
    copy.pre_tokenizer = None
    copy.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    copy.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _finished(copy, tags=True)


def word_piece() -> Any:
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece()
    core.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"], show_progress=False)
    )
    return _finished(core, tags=True)


def _finished(core: Tokenizer, tags: bool) -> Any:
    core.add_special_tokens([AddedToken("</s>", special=True, normalized=False)])
    if tags:
        core.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in ("<think>", "</think>")])
    return PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **MARKED)


@cache
def chats() -> dict[str, Chat]:
    """All that can be aligned, by name."""
    return {
        "bytes": Chat(byte_level(261)),
        "small": Chat(byte_level(300)),
        "large": Chat(byte_level(420)),
        "pieces": Chat(sentence_piece("first")),
        "always": Chat(sentence_piece("always")),
        "untagged": Chat(sentence_piece("first", tags=False)),
        "llama": Chat(llama_like()),
    }
