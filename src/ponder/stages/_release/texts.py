"""Strings on which two tokenizers must agree: every plane, every normal form, every special token's name."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Sequence

from ponder.core.seeds import derive_seed

PLANES = (
    (0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF), (0x1E00, 0x1FFF), (0x2000, 0x2BFF),
    (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0xFE00, 0xFFFD), (0x10000, 0x1FFFD),
    (0x20000, 0x2FFFD), (0x30000, 0x323AF), (0xE0000, 0xE01EF), (0xF0000, 0x10FFFD),
)  # fmt: skip
"""Ranges of code points, by which no part of Unicode is left out because it is small."""
COMBINING = "\u0300\u0301\u0302\u0308\u0323\u0327\u0328\u0345\u05b0\u064b\u0651\u093c\u3099\u309a"
UNCOMPOSED = (
    "e\u0301", "A\u030a", "o\u0323\u0302", "\u1112\u1161\u11ab", "\u2126", "\u212b", "\uf900", "\u0958", "\u0344",
    "s\u0323\u0307",
)  # fmt: skip
"""Ways of writing that NFC changes."""
SPACES = (
    " ", "  ", "\t", "\n", "\n\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u200b", "\u2028", "\ufeff", "   \n ",
)  # fmt: skip
WORDS = (
    "Anna", "has", "twelve", "coins", "isn't", "THEY'RE", "3.14159", "1,000,000", "2026-11-29", "x**2", "=>",
    "\\frac{1}{2}", "def f(x):", "https://e.org/a?b=c&d=%20", "naïve", "Straße", "Ελλάδα", "Привет", "שלום",
    "مرحبا", "नमस्ते", "สวัสดี", "こんにちは", "世界", "한국어", "👩‍👩‍👧‍👦", "🇪🇺",
    "👍🏽", "ﬁ", "①", "½", "…", "“quoted”", "\x00", "\x7f", "\u202e", "\U000e0041",
)  # fmt: skip


def texts_for(count: int, seed: int, specials: Sequence[str], words: Sequence[str] = ()) -> list[str]:
    """Different strings, the same ones for the same arguments.

    Args:
        count: How many.
        seed: Of the draw.
        specials: Names of special tokens, which must be able to stand in a text as text.
        words: The vocabulary's own, if it is at hand: where merges are decided.
    """
    rng = random.Random(derive_seed(seed, "release texts"))
    kinds: list[Callable[[], str]] = [
        lambda: "".join(rng.choice(WORDS) + rng.choice(SPACES) for _ in range(rng.randint(1, 12))),
        lambda: "".join(chr(_point(rng, rng.choice(PLANES))) for _ in range(rng.randint(1, 24))),
        lambda: "".join(chr(_point(rng, (0, 0x10FFFF))) for _ in range(rng.randint(1, 12))),
        lambda: "".join(rng.choice(UNCOMPOSED) + rng.choice(("", "a", " ")) for _ in range(rng.randint(1, 6))),
        lambda: "".join(rng.choice("aeoucnsyÅか") + rng.choice(COMBINING) for _ in range(rng.randint(1, 6))),
        lambda: str(rng.randint(0, 10 ** rng.randint(1, 30))) + rng.choice((" ", ".", ",", "%", "e-7", "°")),
        lambda: "".join(rng.choice(SPACES) for _ in range(rng.randint(1, 10))) + rng.choice(WORDS),
    ]
    if specials:
        kinds.append(lambda: rng.choice(WORDS) + rng.choice(("", " ", "\n")) + rng.choice(specials) + rng.choice(WORDS))
        kinds.append(lambda: _damaged(rng, rng.choice(specials)))
    if words:
        kinds.append(lambda: "".join(rng.choice(words) for _ in range(rng.randint(1, 8))))
    found: dict[str, None] = dict.fromkeys(("", *SPACES, *UNCOMPOSED, *specials))
    for number in range(50 * count):
        if len(found) >= count:
            break
        found[kinds[number % len(kinds)]()] = None
    return list(found)[:count]


def is_composed(text: str) -> bool:
    """Whether NFC leaves a text alone."""
    return unicodedata.is_normalized("NFC", text)


def _point(rng: random.Random, limits: tuple[int, int]) -> int:
    """A code point that UTF-8 can say: half surrogates are none."""
    point = rng.randint(*limits)
    return point if not 0xD800 <= point <= 0xDFFF else 0x61


def _damaged(rng: random.Random, special: str) -> str:
    """A name of a special token with a letter missing, doubled, or in two pieces."""
    place = rng.randrange(max(1, len(special)))
    head, tail = special[:place], special[place:]
    return rng.choice((head, head + tail[1:], f"{head} {tail}", special * 2, special.upper()))
