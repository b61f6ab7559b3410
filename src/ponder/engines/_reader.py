"""What engines ask of a model's tokenizer, wherever it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Reader(Protocol):
    """Tokens and text of one model; `ponder.core.chat.Chat` is one, and so is what an exported file brings."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a turn."""
        ...

    @property
    def think_open(self) -> int | None:
        """Token of the opening thinking tag; None where it is no single token."""
        ...

    @property
    def think_close(self) -> int | None:
        """Token of the closing one."""
        ...

    @property
    def prompt_opens_thinking(self) -> bool:
        """Whether prompts end inside a thought."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of drawn tokens: tags kept, ends of turns and padding dropped, a thought opened by the prompt shown."""
        ...

    def encode_as_text(self, text: str) -> list[int]:
        """Token ids, none of which is a special token."""
        ...
