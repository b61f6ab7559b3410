r"""Compares numbers exactly: 18, 18.0, 36/2, \frac{36}{2}, $18, 18 dollars and 1.8 × 10^1 are one number.

A response is right only if it names one number and that number equals the gold answer as a rational: 0.333 is
not 1/3. What cannot be read without guessing (an expression, an unknown, two candidates, `more than 18`) is
wrong, with its reason. Units: without one in the gold answer any unit word may follow the number; with one,
the response names the same or none. Percent: 50% equals 0.5, and also 50: questions ask `how many percent`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from pydantic import JsonValue

from ponder.core.answers import final_answer
from ponder.core.protocols import Verifier
from ponder.core.types import Problem, Verdict

MAX_CHARACTERS = 2000
"""A longer answer is not read: the work is bounded whatever a response contains."""
MAX_DIGITS = 1000
"""Of a number, and the largest power of ten: beyond what problems ask for, below what takes time."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as it was written."""

    value: Fraction
    percent: bool = False
    unit: tuple[str, ...] = ()
    """Unit words and symbols behind the number, or the currency in front of it."""

    def __str__(self) -> str:
        """One spelling for one number, so that equal answers can be counted as votes."""
        return f"{self.value}%" if self.percent else str(self.value)


class Unreadable(Exception):
    """Text that is not one number; the argument is the reason."""


_CHARACTERS = str.maketrans(
    {chr(0xFEE0 + code): chr(code) for code in range(0x21, 0x7F)}  # full-width forms
    | dict.fromkeys("−﹣‐‑‒–", "-")
    | dict.fromkeys("\u00a0\u2007\u2009\u200a\u202f\u3000\t\r\n~", " ")
    | {"·": "×", "⋅": "×", "⁄": "/", "’": "'", "“": '"', "”": '"', "½": " 1/2", "¼": " 1/4", "¾": " 3/4"}
)
_LATEX = (
    (re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|operatorname)\s?\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\{,\}|,\\!"), ","),
    (re.compile(r"\\(?:[,;: ]|quad\b)"), " "),
    (re.compile(r"\\[()\[\]]"), " "),
    (re.compile(r"\\!|\\(?:left|right)(?=[()])|\*\*|`"), ""),
    (re.compile(r"\^\s?\{?\s?\\circ\s?\}?|°|\\degree\b"), " degrees "),
    (re.compile(r"\\(?:times|cdot)\b|(?<=[0-9])\s?[*x]\s?(?=10\s?\^)"), "×"),
    (re.compile(r"\\approx\b|≈"), "="),
    (re.compile(r"\\%|\bper\s?cent\b", re.IGNORECASE), "%"),
    (re.compile(r"\^\{([^{}]{1,20})\}"), r"^(\1)"),
    (re.compile(r"(?<=[A-Za-z])\^(?:\(2\)|2(?![0-9]))"), "²"),
    (re.compile(r"(?<=[A-Za-z])\^(?:\(3\)|3(?![0-9]))"), "³"),
)
_PLAIN = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_FRACTION = re.compile(rf"\\[dt]?frac\s?(?:\{{\s?(-?{_PLAIN})\s?\}}\s?\{{\s?({_PLAIN})\s?\}}|([0-9])([0-9]))")
_CURRENCIES = (
    (re.compile(r"(-?)\s?\\\$"), r" dollar \1"),
    (re.compile(r"\$([^$]*)\$"), r" \1 "),  # what is left in pairs delimits maths
    (re.compile(r"(-?)\s?\$"), r" dollar \1"),
    *((re.compile(rf"(-?)\s?{sign}"), rf" {name} \1") for sign, name in (("€", "euro"), ("£", "pound"), ("¥", "yen"))),
)
_THOUSANDS = re.compile(r"(?<![0-9.,(\[{])[1-9][0-9]{0,2}(?:(?:,[0-9]{3})+|(?: [0-9]{3})+)(?![0-9]|,[0-9])")
_NUMBER = re.compile(
    rf"""(?P<sign>(?<![\w.)\]%])[-+])?
        (?: (?P<whole>[0-9]+)\s(?P<part>[0-9]+)\s?/\s?(?P<parts>[0-9]+)
          | (?P<top>{_PLAIN})\s?/\s?(?P<bottom>{_PLAIN})
          | (?P<base>{_PLAIN})(?:\s?\^\s?(?:\((?P<power>[-+]?[0-9]+)\)|(?P<bare>-?[0-9]+)))
          | (?P<mantissa>{_PLAIN})(?:[eE](?P<e>[-+]?[0-9]+)(?!\w)
              |\s?×\s?10\s?\^\s?(?:\((?P<tens>[-+]?[0-9]+)\)|(?P<bare_tens>-?[0-9]+)))?
        )""",
    re.VERBOSE,
)
_LETTERS = r"[A-Za-zÀ-ÖØ-öø-ÿ]+(?![A-Za-zÀ-ÖØ-öø-ÿ])"
"""As many as there are: letters that could be cut anywhere would be tried in 2^n ways, and hang whoever judges them."""
_WORD = rf"{_LETTERS}(?:[-']{_LETTERS})*"
_BEFORE = re.compile(rf"(?:\s|{_WORD}|[.,:;!?\"()#])*")
_AFTER = re.compile(rf"(?:\s|{_WORD}|(?<=[A-Za-z])[²³]|/(?=\s?[A-Za-z])|[.,:;!?\"()%])*")
_LONE_LETTER = re.compile(r"(?<![A-Za-z'])[A-Za-z](?![A-Za-z'])")
_LETTERS_BEFORE = frozenset("aAI")
_LETTERS_AFTER = frozenset("aAIgmslLhVWJNCF")
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_HEDGED = re.compile(r"\b(?:or|either|neither|nor|maybe|perhaps|possibly|might|between|versus|vs)\b", re.IGNORECASE)
_DENIED = re.compile(r"\b(?:not|never|cannot|wrong|incorrect)\b|n't\b", re.IGNORECASE)
_ALTERED = re.compile(
    r"""[<>≤≥≠±!\\]\s?[0-9]|[0-9]\s?(?:!|\.\.|…|squared\b|cubed\b|')|≠|\\ne
      | \b(?:pi|sqrt|root|log|ln|exp|sin|cos|tan|mod|plus|half|halves|twice|double|triple|factorial)\b
      | \b(?:(?:more|less|fewer|greater|higher|lower|larger|smaller)\sthan|at\s(?:least|most))\s-?[$0-9]
      | (?:\b(?:a|one)\s|-)(?:third|quarter)s?\b""",
    re.IGNORECASE | re.VERBOSE,
)
_KEYED = re.compile(r"\"\s{0,3}:")
"""A key of JSON: what is forged as a verdict or a record is no answer, even when one number stands in it."""
_MORE = re.compile(
    r"""\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen
      |twenty|(?:thir|for|fif|six|seven|eigh|nine)ty)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_UNITS = {
    spelling: short
    for short, spellings in {
        "dollar": "buck usd",
        "euro": "eur",
        "m": "meter metre",
        "km": "kilometer kilometre",
        "cm": "centimeter centimetre",
        "mm": "millimeter millimetre",
        "g": "gram",
        "kg": "kilogram",
        "h": "hour hr",
        "min": "minute",
        "s": "second sec",
        "l": "liter litre L",
        "ft": "foot feet",
        "in": "inch inche",
        "/": "per",
        "²": "squared",
    }.items()
    for spelling in spellings.split()
}
"""Spellings of the commonest units; any other unit must be spelt as in the gold answer."""


def number(problem: Problem, response: str) -> Verdict:
    """Judge the final answer of a response by its value."""
    try:
        gold = _gold(problem.answer)
    except Unreadable as error:
        return Verdict.unknown(f"the gold answer is {error}")
    found = final_answer(response)
    if found.text is None:
        return Verdict.wrong(reason=found.reason)
    try:
        read = read_quantity(found.text)
    except Unreadable as error:
        return Verdict.wrong(found.text[:200], str(error))
    if not _same_value(gold, read):
        return Verdict.wrong(str(read))
    if not _same_unit(gold, read):
        return Verdict.wrong(str(read), "different unit")
    return Verdict.correct(str(read))


def read_quantity(text: str) -> Quantity:
    """The one number that a short text names.

    Raises:
        Unreadable: If it names none, several, or something that only looks like a number.
    """
    if len(text) > MAX_CHARACTERS:
        raise Unreadable("too long")
    text = _plain(text)
    if _HEDGED.search(text):
        raise Unreadable("hedged")
    if _DENIED.search(text):
        raise Unreadable("denied")
    if _ALTERED.search(text) or _KEYED.search(text):
        raise Unreadable("not a plain number")
    clauses = [clause for clause in re.split(r"[,;]|\band\b", text) if any("0" <= c <= "9" for c in clause)]
    if not clauses:
        raise Unreadable("not a number")
    quantities = [_read_clause(_right_side(clause)) for clause in clauses]
    if any(quantity.value != quantities[0].value for quantity in quantities):
        raise Unreadable("several numbers")
    return quantities[0]


def _gold(answer: JsonValue) -> Quantity:
    if answer is None:
        raise Unreadable("missing")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise Unreadable(f"a {type(answer).__name__}, not a number")
    if isinstance(answer, int) and abs(answer) >= 10**MAX_DIGITS:
        raise Unreadable("too long")
    return read_quantity(str(answer))


def _plain(text: str) -> str:
    """The text with one spelling for signs, spaces, fractions, thousands and currency."""
    text = text.translate(_CHARACTERS)
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    text = _FRACTION.sub(_slashed, text)
    for pattern, replacement in _CURRENCIES:
        text = pattern.sub(replacement, text)
    text = text.strip(" \"'")
    text = _THOUSANDS.sub(lambda match: re.sub("[, ]", "", match.group()), text)
    text = re.sub(r"\b(?:negative|minus) (?=[0-9.])", "-", text, flags=re.IGNORECASE)
    return re.sub(r"(^|=)\s*([-+])\s+(?=[0-9.])", r"\1 \2", text) if "=" in text else text


def _right_side(clause: str) -> str:
    """What an equation says about the number: `x = 18` and `9 × 2 = 18` name it, `x + 3 = 18` does not."""
    *left, right = clause.split("=")
    for side in left:
        names_unknown = _LONE_LETTER.search(re.sub(r"_\{?\w+\}?|\(\w+\)", "", side))
        if names_unknown and re.search(r"[-+*/^×\\]|[0-9][A-Za-z]", side):
            raise Unreadable("not a plain number")
    return right


def _slashed(match: re.Match[str]) -> str:
    r"""`\frac` of two plain numbers with a slash; behind a whole number it stays apart, and is mixed."""
    top, bottom, short_top, short_bottom = match.groups()
    behind_number = match.string[: match.start()].rstrip()[-1:].isdigit()
    return f"{' ' * behind_number}{top or short_top}/{bottom or short_bottom}"


def _read_clause(text: str) -> Quantity:
    """The number of a clause that may have words around it."""
    matches = list(_NUMBER.finditer(text))
    if not matches:
        raise Unreadable("not a number")
    if len(matches) > 1:
        raise Unreadable("several numbers")
    before, after = text[: matches[0].start()], text[matches[0].end() :]
    if not _is_prose(before, _BEFORE, _LETTERS_BEFORE) or not _is_prose(after, _AFTER, _LETTERS_AFTER):
        raise Unreadable("not a plain number")
    if before[-1:].isalpha() or re.search(r"[A-Za-z]\($|/\s?$", before) or _MORE.search(after):
        raise Unreadable("not a plain number")
    value = _value(matches[0])
    unit = _unit(after)
    while unit and unit[0] in _SCALES:
        value, unit = value * 10 ** _SCALES[unit[0]], unit[1:]
    if currency := re.search(r"(dollar|euro|pound|yen) $", before):
        unit = (currency[1], *(word for word in unit if word != currency[1]))
    return Quantity(value, after.lstrip().startswith("%"), unit)


def _is_prose(text: str, pattern: re.Pattern[str], letters: frozenset[str]) -> bool:
    """Whether nothing but words and light punctuation stands there; a lone letter could be an unknown."""
    return pattern.fullmatch(text) is not None and letters.issuperset(_LONE_LETTER.findall(text))


def _value(match: re.Match[str]) -> Fraction:
    part = match.groupdict()
    if any(sum(map(str.isdigit, text or "")) > MAX_DIGITS for text in part.values()):
        raise Unreadable("too long")
    if part["whole"]:
        value = Fraction(int(part["whole"])) + _ratio(part["part"], part["parts"])
        if int(part["part"]) >= int(part["parts"]):
            raise Unreadable("not a plain number")
    elif part["top"]:
        value = _ratio(part["top"], part["bottom"])
    elif part["base"]:
        value = _raised(Fraction(part["base"]), part["power"] or part["bare"])
    else:
        tens = part["e"] or part["tens"] or part["bare_tens"] or "0"
        value = Fraction(part["mantissa"]) * _raised(Fraction(10), tens)
    return -value if part["sign"] == "-" else value


def _ratio(top: str, bottom: str) -> Fraction:
    if not Fraction(bottom):
        raise Unreadable("not a number")
    return Fraction(top) / Fraction(bottom)


def _raised(base: Fraction, power: str) -> Fraction:
    exponent = int(power)
    size = len(str(base.numerator)) + len(str(base.denominator)) - 1
    if abs(exponent) * size > MAX_DIGITS or (not base and exponent < 0):
        raise Unreadable("too long" if base else "not a number")
    return base**exponent


def _unit(after: str) -> tuple[str, ...]:
    """Words and symbols from the number to the next punctuation, each in one spelling."""
    text = re.split(r"[.,:;!?\"(]", after.replace("%", " "), maxsplit=1)[0]
    return tuple(_spelt(token) for token in re.findall(rf"{_WORD}|[²³/]", text))


def _spelt(token: str) -> str:
    """Short symbols keep their case (mW is not MW); words lose it and their plural."""
    word = token if len(token) <= 2 else token.lower()
    singular = word[:-1] if len(word) > 3 and word.endswith("s") else word
    return _UNITS.get(word) or _UNITS.get(singular) or singular


def _same_value(gold: Quantity, read: Quantity) -> bool:
    if gold.value == read.value:
        return True
    return gold.percent != read.percent and gold.value / (100 if gold.percent else 1) == read.value / (
        100 if read.percent else 1
    )


def _same_unit(gold: Quantity, read: Quantity) -> bool:
    """Whether units agree where both name one; prose may go on behind a unit, but not `per` or a power."""
    if not gold.unit or not read.unit:
        return True
    rest = read.unit[len(gold.unit) :]
    return read.unit[: len(gold.unit)] == gold.unit and rest[:1] not in (("/",), ("²",), ("³",))


plugin: Verifier = number
