"""Keeps the reasoning in one language: the share of the thinking's words that are in the asked one.

DeepSeek-R1 (arXiv:2501.12948, section 2.3.2) added this share to the reward as it is. Words are told apart by
script, and languages that share a script by their function words, sentence by sentence: the small words of a
sentence say which language its long ones belong to. Code, formulas, numbers and names are nobody's language
and are not counted.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Literal

from ponder.core.answers import split_thinking
from ponder.core.protocols import Reward
from ponder.core.types import Record, Trace

Language = Literal["ar", "de", "en", "es", "fr", "hi", "it", "ja", "ko", "pt", "ru", "zh"]

SCRIPTS: dict[str, frozenset[str]] = {
    "ar": frozenset({"ARABIC"}),
    "hi": frozenset({"DEVANAGARI"}),
    "ja": frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}),
    "ko": frozenset({"HANGUL"}),
    "ru": frozenset({"CYRILLIC"}),
    "zh": frozenset({"CJK"}),
}
LATIN = frozenset({"LATIN"})
UNSPACED = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"})
"""Scripts written without spaces: each character counts as a word."""

FUNCTION_WORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "de": "aber also am auch auf aus bei beim das dass dem den denn der des die dies diese durch ein "
        "eine einem einen einer er es für haben hat ich im ist jetzt kann man mit muss nach nicht "
        "noch nun nur oder sein sich sie sind so um und uns von vor war was wenn wie wir wird zu zum "
        "zur",
        "en": "a an and are as at be because been but by can did do does for from had has have he her his "
        "how i if in is it its me must my no not now of on one or our she so that the their them then "
        "there these they this to was we were what when which who will with would you",
        "es": "al como con cuando de del donde el ella ellos en entonces es esta está este esto hay la las "
        "lo los más no nos o para pero por porque que qué se si sin son su sus también tiene todo un "
        "una uno y ya",
        "fr": "alors au aux avec car ce cela ces cette comme dans de des donc du elle elles en est et être "
        "il ils je la le les leur mais ne nous on ont ou où par pas plus pour que qui sa se si son "
        "sont sur un une vous",
        "it": "al alla anche che chi ci come con cui da dal dei del della delle di dove e è ed gli ha hanno "
        "i il in la le lo ma nel nella non o per perché più poi quando questa questo quindi se si "
        "sono su un una uno",
        "pt": "ao as até com como da das de do dos e é ela ele em então entre essa esse esta está este eu "
        "foi isso já mais mas na não nas no nos o os ou para pela pelo por porque que se sem são seu "
        "sua também tem um uma",
    }.items()
}

_EXEMPT = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`"  # code
    r"|\$\$.*?\$\$|\$[^$\n]*\$|\\\(.*?\\\)|\\\[.*?\\\]|\\[A-Za-z]+"  # formulas
    r"|\b\w*[\d_]\w*\b|\b\w+\([^)\n]*\)|https?://\S+",  # numbers, identifiers, calls, addresses
    re.DOTALL,
)
_SENTENCE = re.compile(r"[^.!?;:\n。！？]+")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


class LanguageShare(Record):
    """Share of the thinking's words in one language, between 0 and 1."""

    language: Language = "en"

    def __call__(self, trace: Trace) -> float:
        """The share; 0 without thinking, 1 when the thinking is formulas and names alone."""
        thinking = split_thinking(trace.completion.text).thinking
        if not thinking:
            return 0.0
        own = total = 0
        for sentence in _SENTENCE.findall(_EXEMPT.sub(" ", thinking)):
            words = _counted(sentence)
            own += self._own(words)
            total += len(words)
        return own / total if total else 1.0

    def _own(self, words: list[str]) -> int:
        """How many of a sentence's words are in the language."""
        scripts = SCRIPTS.get(self.language, LATIN)
        fitting = [word for word in words if _script(word[0]) in scripts]
        if scripts is not LATIN:
            return 0 if self.language == "ja" and _is_chinese(words) else len(fitting)
        hits = {name: sum(word.lower() in known for word in fitting) for name, known in FUNCTION_WORDS.items()}
        return len(fitting) if hits[self.language] == max(hits.values()) else 0


def _counted(sentence: str) -> list[str]:
    """The words of a sentence that belong to some language: neither names nor single letters."""
    words: list[str] = []
    for word in _WORD.findall(sentence):
        words += word if _script(word[0]) in UNSPACED else [word]
    plain = [w for i, w in enumerate(words) if i == 0 or not w[0].isupper()]
    if 2 * len(plain) < len(words):  # a sentence of capitals is no list of names
        plain = words
    return [w for w in plain if len(w) > 1 or _script(w) in UNSPACED]


def _is_chinese(words: list[str]) -> bool:
    """A longer sentence in Chinese characters without any kana is not Japanese."""
    scripts = [_script(word[0]) for word in words]
    return scripts.count("CJK") >= 8 and not UNSPACED - {"CJK"} & set(scripts)


@lru_cache(maxsize=8192)
def _script(character: str) -> str:
    """First word of the character's Unicode name, which is its script."""
    return unicodedata.name(character, "?").split()[0]


plugin: type[Reward] = LanguageShare
