"""Messages to tokens and back: the one place that renders a chat template.

The template is part of the model. It is rendered by the tokenizer, checked once for the faults that ruin training in
silence (a dropped message, a turn that never ends, two BOS tokens) and hashed into every manifest. Text that looks like
a special token inside a user's message stays text: it cannot forge a turn.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

from ponder.core.answers import THINK_CLOSE, THINK_OPEN
from ponder.core.errors import ConfigurationError
from ponder.core.types import Message, Messages

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message.role | capitalize + ': ' + message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
"""For base models that bring no template: roles in words, the tokenizer's own EOS closes the turn."""

MAX_TEMPLATE_CHARACTERS = 100_000


class Chat:
    """Encodes conversations for one tokenizer and its template.

    Args:
        tokenizer: A Hugging Face fast tokenizer.

    Raises:
        ConfigurationError: If the template drops a message, or never closes the assistant's turn.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Check the template by rendering a probe conversation."""
        self.tokenizer = tokenizer
        self.template: str = tokenizer.chat_template or PLAIN_TEMPLATE
        if not isinstance(self.template, str) or len(self.template) > MAX_TEMPLATE_CHARACTERS:
            raise ConfigurationError(
                "the chat template is not one text of reasonable size", fix="keep a single template in the tokenizer"
            )
        self._specials = _special_ids(tokenizer)
        self._special_pattern = re.compile("|".join(map(re.escape, sorted(self._specials, key=len, reverse=True))))
        self.end_id: int = self._find_end_of_turn()
        eos = tokenizer.eos_token_id
        self.stop_ids: frozenset[int] = frozenset({self.end_id} | ({eos} if eos is not None else set()))
        self.think_open = self._specials.get(THINK_OPEN)
        self.think_close = self._specials.get(THINK_CLOSE)
        rendered = self.render((Message(role="user", content="x"),), generation=True)
        self.prompt_opens_thinking: bool = rendered.rstrip().endswith(THINK_OPEN)
        """Whether the generation prompt already opens the thought, so that a response starts inside it."""

    @property
    def digest(self) -> str:
        """Hash of the template: models that render differently are different models."""
        return hashlib.blake2b(self.template.encode(), digest_size=8).hexdigest()

    @cached_property
    def tokens_digest(self) -> str:
        """Hash of the vocabulary and of how text is cut: tokenizers that agree in it give the same ids."""
        content = json.loads(self.tokenizer.backend_tokenizer.to_str())
        for passing in ("truncation", "padding"):
            content.pop(passing, None)
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def prompt(self, messages: Messages) -> list[int]:
        """Token ids of a conversation with the generation prompt, exactly one BOS where the tokenizer wants one."""
        contents = [text for m in messages for text in (m.content, m.reasoning_content) if text]
        if self._specials and any(self._special_pattern.search(text) for text in contents):
            ids = self._encode_hostile(messages)
        else:
            rendered = self.render(messages, generation=True)
            lost = [m.role for m in messages if m.content.strip() not in rendered]
            if lost:
                raise ConfigurationError(
                    f"the chat template drops the {lost[0]} message", fix="use a model whose template has that role"
                )
            ids = self.encode(rendered)
        return self._with_bos(ids)

    def response(self, text: str) -> list[int]:
        """Token ids of an assistant's response, thinking tags as tokens, with the end-of-turn token."""
        if self.prompt_opens_thinking:
            text = text.removeprefix(THINK_OPEN).removeprefix("\n")
        ids: list[int] = []
        for piece in re.split(f"({THINK_OPEN}|{THINK_CLOSE})", text):
            tag = self._specials.get(piece)
            ids.extend([tag] if tag is not None else self.encode_as_text(piece))
        return [*ids, self.end_id]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of sampled tokens: thinking tags kept, end-of-turn and padding dropped, a thought opened if need be."""
        pad = self.tokenizer.pad_token_id
        text = self.tokenizer.decode(
            [i for i in ids if i not in self.stop_ids and i != pad],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        return f"{THINK_OPEN}\n{text}" if self.prompt_opens_thinking and THINK_OPEN not in text else text

    def spell(self, ids: Sequence[int]) -> str:
        """Text of tokens as they are, special ones included."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def render(self, messages: Messages, generation: bool = True, thinking: bool = True) -> str:
        """The conversation as text; `thinking` off tells the template so, which it may heed."""
        dumped = [m.model_dump(exclude_none=True) for m in messages]
        told = {} if thinking else {"enable_thinking": False}
        return self.tokenizer.apply_chat_template(
            dumped, chat_template=self.template, tokenize=False, add_generation_prompt=generation, **told
        )

    def encode(self, text: str) -> list[int]:
        """Token ids of a text in which names of special tokens are these tokens; nothing is added."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def encode_as_text(self, text: str) -> list[int]:
        """Token ids, no part of which is a special token: each look-alike is cut behind its first letter."""
        cuts = [match.start() + 1 for match in self._special_pattern.finditer(text)] if self._specials else []
        pieces = (text[start:end] for start, end in pairwise([0, *cuts, len(text)]))
        return [token for piece in pieces if piece for token in self.encode(piece)]

    def _encode_hostile(self, messages: Messages) -> list[int]:
        return encoded_apart(messages, self.render, self.encode, self.encode_as_text)

    def _with_bos(self, ids: list[int]) -> list[int]:
        bos = self.tokenizer.bos_token_id
        if bos is None or ids[:1] == [bos] or self.tokenizer("")["input_ids"][:1] != [bos]:
            return ids
        return [bos, *ids]

    def _find_end_of_turn(self) -> int:
        probe = (Message(role="user", content="q"), Message(role="assistant", content="zyx"))
        _, found, after = self.render(probe, generation=False).rpartition("zyx")
        if not found:
            raise ConfigurationError("the chat template drops the assistant's message")
        closing = self._special_pattern.match(after.lstrip()) if self._specials else None
        if closing is None:
            raise ConfigurationError(
                "the chat template never closes the assistant's turn, so no stop token would be trained",
                fix="end assistant turns in the template with the tokenizer's EOS or another special token",
            )
        return self._specials[closing.group()]


def encoded_apart(
    messages: Messages,
    render: Callable[[Messages], str],
    as_template: Callable[[str], list[int]],
    as_text: Callable[[str], list[int]],
) -> list[int]:
    """Render with place-holders, then encode the template as template and the contents as text.

    Args:
        messages: Whose contents name special tokens.
        render: Gives the conversation with the generation prompt.
        as_template: Reads names of special tokens as these tokens.
        as_text: Does not.
    """
    contents: list[str] = []

    def hide(text: str | None) -> str | None:
        if not text:
            return text
        contents.append(text.strip())
        return f"\ue000{len(contents) - 1}\ue001"

    hidden = [
        m.model_copy(update={"content": hide(m.content), "reasoning_content": hide(m.reasoning_content)})
        for m in messages
    ]
    ids: list[int] = []
    for index, piece in enumerate(re.split("\ue000(\\d+)\ue001", render(hidden))):
        ids += as_text(contents[int(piece)]) if index % 2 else as_template(piece)
    return ids


def _special_ids(tokenizer: Any) -> dict[str, int]:
    """Strings that the tokenizer turns into a single id wherever they stand."""
    return {str(token.content): int(index) for index, token in tokenizer.added_tokens_decoder.items()}
