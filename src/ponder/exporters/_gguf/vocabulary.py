"""A byte-level BPE tokenizer as GGUF stores it: tokens, merges, and the name of its way of cutting text."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import gguf

from ponder.core.errors import ConfigurationError
from ponder.core.types import Record

_log = logging.getLogger("ponder.exporters")
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_REST}": "qwen2",
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_REST}": "llama-bpe",
}
"""Regular expression by which a tokenizer cuts text into words, and llama.cpp's name for it."""
PLAIN = "gpt-2"
"""The pattern that a byte-level pre-tokenizer has of its own."""
IGNORING_MERGES = ("llama-bpe",)
"""Where llama.cpp takes a word that is a token whole, whatever the merges say."""


class Vocabulary(Record):
    """What llama.cpp needs to encode as the tokenizer does."""

    pre: str
    tokens: tuple[str, ...]
    """By id, in the alphabet that stands for bytes; added ones as they are."""
    kinds: tuple[int, ...]
    merges: tuple[str, ...]


def read_vocabulary(model: Path, rows: int) -> Vocabulary:
    """The vocabulary of a model folder.

    Args:
        model: Folder.
        rows: Of the embedding; ids without a token are filled up.

    Raises:
        ConfigurationError: If llama.cpp would encode some text otherwise than the tokenizer does.
    """
    path = model / "tokenizer.json"
    try:
        declared: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        core, added = declared["model"], declared["added_tokens"]
        pre = _pre_tokenizer(declared)
        _check_core(core, pre)
        tokens = {int(index): text for text, index in core["vocab"].items()}
        merges = tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in core["merges"])
    except FileNotFoundError as error:
        raise ConfigurationError("tokenizer.json is missing", where=str(model)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError("tokenizer.json cannot be read", where=str(path)) from error
    kinds = dict.fromkeys(tokens, gguf.TokenType.NORMAL)
    for token in added:
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            raise ConfigurationError(f"the token {token['content']!r} takes in its surroundings", where=str(path))
        tokens[token["id"]] = token["content"]
        kinds[token["id"]] = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
    if max(tokens) >= rows:
        raise ConfigurationError(f"the tokenizer has {max(tokens) + 1} ids, and the model {rows}", where=str(path))
    return Vocabulary(
        pre=pre,
        tokens=tuple(tokens.get(index, f"[PAD{index}]") for index in range(rows)),
        kinds=tuple(int(kinds.get(index, gguf.TokenType.UNUSED)) for index in range(rows)),
        merges=merges,
    )


def _pre_tokenizer(declared: dict[str, Any]) -> str:
    """llama.cpp's name for the way in which text is cut into words.

    llama.cpp applies no normaliser. NFC, which leaves composed text alone, is borne and told; others are refused.
    """
    normalizer = declared.get("normalizer")
    if normalizer is not None and normalizer != {"type": "NFC"}:
        raise ConfigurationError(
            f"llama.cpp does not normalise text, and this tokenizer does ({normalizer.get('type')})",
            where="tokenizer.json",
        )
    if normalizer is not None:
        _log.warning("llama.cpp does not compose characters (NFC) as this tokenizer does: compose text before asking")
    steps = declared["pre_tokenizer"]
    steps = steps["pretokenizers"] if steps["type"] == "Sequence" else [steps]
    *cuts, last = steps
    plain = last["type"] == "ByteLevel" and not last["add_prefix_space"]
    if plain and not cuts and last.get("use_regex", True):
        return PLAIN
    if plain and len(cuts) == 1 and not last.get("use_regex", True):
        cut = cuts[0]
        name = PATTERNS.get(cut.get("pattern", {}).get("Regex", ""))
        if name and cut["type"] == "Split" and cut["behavior"] == "Isolated" and not cut["invert"]:
            return name
    raise ConfigurationError(
        "llama.cpp may cut text into words otherwise than this tokenizer does",
        where="tokenizer.json, pre_tokenizer",
        fix="use a tokenizer of the Qwen, Llama 3 or GPT-2 kind, as `ponder pretrain` makes",
    )


def _check_core(core: dict[str, Any], pre: str) -> None:
    odd = [name for name in ("dropout", "unk_token", "byte_fallback", "fuse_unk") if core.get(name)]
    odd += [name for name in ("continuing_subword_prefix", "end_of_word_suffix") if core.get(name)]
    if core["type"] != "BPE" or odd or bool(core.get("ignore_merges")) != (pre in IGNORING_MERGES):
        what = ", ".join(odd) or f"{core['type']}, ignore_merges {bool(core.get('ignore_merges'))}"
        raise ConfigurationError(
            f"only byte-level BPE is exported, as llama.cpp's {pre!r} does it ({what})", where="tokenizer.json, model"
        )
