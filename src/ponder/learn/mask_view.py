"""Shows which tokens of the first rows are trained and which are only read, before anything is learnt from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.text import Text

from ponder.core.chat import Chat
from ponder.core.types import Example
from ponder.learn.batch import targets_of
from ponder.runs.log import SHOW_TEXTS, Log

ROWS = 3
END_CHARACTERS = 80
"""Of a long part, this much of its beginning and of its end is shown."""
PARTS = 24
"""Parts of a row that are shown."""
STYLES = {(True, False): "green", (True, True): "bold green", (False, False): "dim", (False, True): "bold dim"}
"""By (trained, special)."""

Part = tuple[bool, bool, str]
"""Whether its tokens are trained, whether they are special, and their text."""


def show_mask(examples: Sequence[Example], chat: Chat, log: Log) -> None:
    """Show the first rows to a person: in colour, or with brackets; a pipe is told counts alone, a program nothing."""
    if log.mode not in ("live", "plain"):
        return
    trained = sum(len(targets_of(example)) for example in examples)
    total = sum(len(example.tokens) for example in examples)
    counts = f"step 1 trains {trained:,} of the {total:,} tokens of {len(examples):,} rows"
    if not log.shows_texts:
        log.note(f"{counts} ({SHOW_TEXTS}=1 shows them)")
        return
    legend = "green is trained, grey is only read, bold is a special token"
    if not log.colour:
        legend = "what stands in [brackets] is trained, the rest is only read"
    view = Text(f"{counts}; {legend}\n")
    for number, example in enumerate(examples[:ROWS], start=1):
        view.append(f"  row {number} ({len(targets_of(example)):,} of {len(example.tokens):,}): ")
        view.append_text(_row(parts_of(example, chat), log.colour))
        view.append("\n" if number < min(ROWS, len(examples)) else "")
    log.show(view)


def parts_of(example: Example, chat: Chat) -> list[Part]:
    """A row as runs of tokens that are alike; what is no printable character is written as an escape."""
    targets = set(targets_of(example).tolist())
    special = set(chat.tokenizer.all_special_ids) | set(chat.tokenizer.added_tokens_decoder)
    kinds = [(place in targets, int(token) in special, int(token)) for place, token in enumerate(example.tokens)]
    return [
        (*kind, printable(chat.tokenizer.decode([token for *_, token in run], **_AS_IT_IS)))
        for kind, run in groupby(kinds, key=lambda entry: entry[:2])
    ]


_AS_IT_IS = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}


def printable(text: str) -> str:
    r"""Text that cannot move a cursor, hide or reorder anything: `\n` for a line's end, `\x1b`, `\u202e`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _row(parts: Sequence[Part], colour: bool) -> Text:
    row = Text()
    for piece, style in _pieces(parts[:PARTS], colour):
        row.append(piece, style)
    if len(parts) > PARTS:
        row.append(f" ... {len(parts) - PARTS:,} more parts")
    return row


def _pieces(parts: Sequence[Part], colour: bool) -> Iterator[tuple[str, str]]:
    """Pieces of text and their style; without colour, brackets around what is trained."""
    if colour:
        yield from ((_cut(text), STYLES[trained, special]) for trained, special, text in parts)
        return
    for trained, run in groupby(parts, key=lambda part: part[0]):
        text = "".join(_cut(text) for *_, text in run)
        yield (f"[{text}]" if trained else text), ""


def _cut(text: str) -> str:
    """The two ends of a long text: where it begins and stops is what matters."""
    if len(text) <= 2 * END_CHARACTERS:
        return text
    return f"{text[:END_CHARACTERS]} ... {text[-END_CHARACTERS:]}"
