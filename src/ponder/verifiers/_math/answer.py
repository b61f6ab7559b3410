r"""Reads whole answers: relations, lists, tuples, intervals, sets, matrices, quantities, words.

What is ambiguous stays in the tree as it was written (`(1, 2)` is a tuple; comparing decides whether it is an
interval), and what is not one answer is refused: `7 or 8` becomes a list of two, which equals no number.
"""

from __future__ import annotations

from fractions import Fraction

from ponder.verifiers._math.matrices import added, multiplied, scaled
from ponder.verifiers._math.parser import END, Expressions
from ponder.verifiers._math.tokens import Token
from ponder.verifiers._math.tree import Node, Unreadable, number
from ponder.verifiers._math.units import UNIT_LETTERS
from ponder.verifiers._math.vocabulary import DENIALS, LEADS, NUMBER_WORDS, SCALES, SHORT_WORDS

_RELATIONS = frozenset(["=", "==", "<", ">", "<=", ">=", "!=", "<>", "~", "in", "=>", "->"])
_SETS = {"cup": "union", "cap": "intersect", "minus": "minus"}
_CLOSING = {"(": ")]", "[": "])", "]": "["}


class Answers(Expressions):
    """The rules above expressions."""

    def __init__(self, tokens: list[Token]) -> None:
        """Begin at the first token; a lone letter behind a number and a space is a unit, as in `10 m`."""
        super().__init__(tokens)
        self.in_set = False
        """Inside a set, where a colon is `such that`."""
        for place in range(1, len(tokens)):
            token, before, behind = tokens[place], tokens[place - 1], tokens[place + 1 : place + 3]
            if token.kind != "letter" or token.text not in UNIT_LETTERS or not token.spaced:
                continue
            last = not behind or (behind[0].kind in ("/", "^") and len(behind) == 2 and len(tokens) <= place + 5)
            if before.kind in ("num", "deg") and last:
                tokens[place] = token._replace(kind="word")

    def whole(self) -> Node:
        """Everything there is, as one answer."""
        items = [self.item()]
        alternatives = False
        while separator := self.take(",", ";", "and", "or"):
            if separator.kind in (",", ";"):
                self.take("and", "or")
            if self.peek() is END:
                break
            alternatives |= separator.kind == "or"
            items.append(self.item())
        while self.take(".", "?", ":"):
            pass
        if self.peek() is not END:
            raise Unreadable("not mathematics")
        return items[0] if len(items) == 1 else Node("list", tuple(items), "or" if alternatives else ",")

    def item(self) -> Node:
        """One side of a list: a relation, a quantity, words."""
        if not self.at or self.tokens[self.at - 1].kind in (",", ";", "and", "or"):
            self.take("=", "~", "=>", ":")
        sides: list[Node] = [self.side()]
        operators: list[str] = []
        while relation := self.take(*_RELATIONS):
            operators.append(relation.kind)
            sides.append(self.side())
        if not operators:
            return sides[0]
        return Node("rel", tuple(sides), tuple([_OPERATORS.get(name, name) for name in operators]))

    def side(self) -> Node:
        """Sets with their operators between them."""
        node = self.part()
        while sign := self.take(*_SETS):
            node = Node(_SETS[sign.kind], (node, self.part()))
        return node

    def part(self) -> Node:
        """A structure in brackets, a matrix, or an expression with its unit."""
        token = self.peek()
        if token.kind in ("word", "and", "or"):
            return self._words()
        structure = self._structure(token)
        if structure is not None:
            return self._matrices(structure) if structure.head == "matrix" else structure
        currency = self.take("$")
        minus = self.take("-") if currency is None and self.peek(1).kind == "$" else None
        if minus is not None:
            currency = self.take("$")
        node = self.sum()
        if self.peek().kind == "begin" or (self.peek().kind == "*" and self.peek(1).kind == "begin"):
            self.take("*")
            return self._matrices(scaled(node, self._matrix()))
        if minus is not None:
            node = Node("mul", (number(-1), node))
        if self.peek().kind == ":" and not self.in_set and self.peek(1).kind in ("num", "letter"):
            node = self._ratio(node)
        return self._measured(node, ("$",) if currency or self.take("$") else ())

    def _structure(self, token: Token) -> Node | None:
        """What brackets hold when it is more than one thing; else nothing, and nothing is taken."""
        if token.kind == "begin":
            return self._matrix()
        if token.kind == "empty":
            self.at += 1
            return Node("set")
        if token.kind == "{{":
            self.at += 1
            return self._set("}}")
        if token.kind not in ("(", "[", "]", "<<", "{"):
            return None
        if token.kind in ("(", "[") and self.peek(1).kind == "begin":
            self.at += 1
            node = self._matrix()
            self.need(")", "]")
            return node
        if token.kind == "(" and self.peek(1).kind == "word":
            self.at += 1
            node = self._words()
            self.need(")")
            return node
        if not self._has_comma(token.kind):
            return None
        self.at += 1
        if token.kind == "{":
            return self._set("}")
        turned = self.turned
        self.turned = self._ends_turned(token.kind)
        items = self._items((")", "]", ">>") + (("[",) if self.turned else ()))
        self.turned = turned
        closing = self.tokens[self.at - 1].kind
        node = _bracketed(token.kind, closing, items)
        exponent = self.take("^")
        if exponent is not None:  # (1, 2)^T
            self._exponent()
        return node

    def _has_comma(self, opening: str) -> bool:
        """Whether a comma stands inside these brackets and outside of all others."""
        depth = 1
        for token in self.tokens[self.at + 1 :]:
            if opening == "]" and depth == 1 and token.kind in ("[", "]"):
                return False
            depth += token.kind in ("(", "[", "{", "{{", "<<")
            depth -= token.kind in (")", "]", "}", "}}", ">>")
            if depth == 0:
                return False
            if token.kind in (",", ";") and depth == 1:
                return True
        return False

    def _ends_turned(self, opening: str) -> bool:
        """Whether `[` closes an interval here: `]1, 2[`, or `(1, 2[`."""
        last = self.tokens[-1].kind == "[" or any(
            token.kind == "[" and behind.kind in ("cup", "cap", ",")
            for token, behind in zip(self.tokens[self.at :], self.tokens[self.at + 1 :], strict=False)
        )
        return opening in ("]", "(", "[") and last

    def _items(self, closings: tuple[str, ...]) -> tuple[Node, ...]:
        self.depth += 1
        if self.depth > 20:
            raise Unreadable("nested too deeply")
        items: list[Node] = []
        while not self.take(*closings):
            if items:
                self.need(",", ";", "and")
            items.append(self.item())
        self.depth -= 1
        return tuple(items)

    def _set(self, closing: str) -> Node:
        r"""`\{1, 2\}`, or `\{x | x > 2\}`, which is its condition."""
        start, self.in_set = self.at, True
        try:
            items = self._items((closing,))
            self.in_set = False
            return Node("set", items)
        except Unreadable:
            self.at = start
        self.bars += 1
        self.item()
        self.need("|", ":")
        self.bars -= 1
        self.in_set = False
        conditions = [self.item()]
        while self.take(",", "and"):
            conditions.append(self.item())
        self.need(closing)
        real = [each for each in conditions if not _says_only_real(each)]
        if len(real) != 1:
            raise Unreadable("not mathematics")
        return real[0]

    def _matrix(self) -> Node:
        r"""The rows between `\begin` and `\end`."""
        kind = self._environment()
        if "matrix" not in kind and kind != "array":
            raise Unreadable("not mathematics")
        rows: list[list[Node]] = [[]]
        while not self.take("end"):
            if self.take("row"):
                rows.append([])
            elif not self.take("&"):
                rows[-1].append(self.item())
        self.at -= 1
        self._environment()
        rows = [row for row in rows if row]
        if not rows or any(len(row) != len(rows[0]) for row in rows):
            raise Unreadable("not mathematics")
        node = Node("matrix", tuple(Node("row", tuple(row)) for row in rows))
        return Node("fn", (node,), "det") if kind.startswith("v") else node

    def _matrices(self, node: Node) -> Node:
        """Sums and products of matrices that are written out."""
        while self.peek().kind in ("+", "-", "*", "begin") and node.head == "matrix":
            sign = self.take("+", "-", "*")
            if self.peek().kind != "begin":
                raise Unreadable("not mathematics")
            other = self._matrix()
            if sign is None or sign.kind == "*":
                node = multiplied(node, other)
            else:
                node = added(node, other if sign.kind == "+" else scaled(number(-1), other))
        return node

    def _environment(self) -> str:
        r"""The name behind `\begin` or `\end`, and the columns of an array."""
        self.need("begin", "end")
        self.need("{")
        name = ""
        while not self.take("}"):
            name += self.need("letter", "word", "*", "name").text
        if name == "array" and self.take("{"):
            while not self.take("}"):
                self.need("letter", "|")
        return name

    def _ratio(self, first: Node) -> Node:
        """`3:4:5`."""
        parts = [first]
        written = [self.tokens[self.at - 1].text]
        while self.take(":"):
            parts.append(self.sum())
            written.append(self.tokens[self.at - 1].text)
        clock = len(written) == 2 and all(text.isdigit() for text in written) and len(written[1]) == 2
        return Node("ratio", tuple(parts), "clock" if clock and int(written[1]) < 60 else "")

    def _measured(self, node: Node, unit: tuple[str, ...]) -> Node:
        """An expression with the words behind it, and what scales it."""
        while (token := self.peek()).kind == "word" and token.text.lower() in SCALES:
            self.at += 1
            node = Node("mul", (node, number(SCALES[token.text.lower()])))
        if node.head in ("percent", "deg"):
            unit, node = (node.head,), node.args[0]
            if unit == ("deg",):
                unit = ("degree",)
        unit += self._unit(node)
        return Node("quantity", (node,), unit) if unit else node

    def _unit(self, node: Node) -> tuple[str, ...]:
        """Unit words, signs and powers from here on."""
        words: list[str] = []
        while True:
            token = self.peek()
            if token.kind == "word" or (words and token.kind == "letter" and token.text in UNIT_LETTERS):
                words.append(token.text)
                self.at += 1
            elif words and words[-1].lower() in DENIALS:
                raise Unreadable("denied")
            elif words and token.kind == "^":
                self.at += 1
                words.append(f"^{self._unit_power()}")
            elif token.kind in ("/", "*") and self.peek(1).kind in (("word", "letter") if words else ("word",)):
                words.append(token.kind)
                self.at += 1
            elif words and token.kind == "." and self.peek(1).kind == "word":
                self.at += 1
            else:
                return tuple(words)

    def _unit_power(self) -> int:
        braces = self.take("{")
        minus = self.take("-")
        power = self.need("num").text
        if braces:
            self.need("}")
        if not power.isdigit() or len(power) > 1:
            raise Unreadable("not mathematics")
        return -int(power) if minus else int(power)

    def _words(self) -> Node:
        """Words alone are a text or a number in words; words that lead to an expression are left out."""
        words: list[str] = []
        while (token := self.peek()).kind in ("word", "letter", "'") and not self._starts_product():
            words.append(token.text)
            self.at += 1
            if self.peek().kind == "-" and self.peek(1).kind in ("word", "letter") and not self.peek(1).spaced:
                self.at += 1
        if not words:  # `and` or `or` where something should stand
            raise Unreadable("not mathematics")
        low = [word.lower() for word in words]
        if self.peek().kind in (END.kind, ",", ";", "and", "or", ".", ")", "]", "}", "}}", "?", ":", "&", "row", "end"):
            return _in_words(words)
        if not all(word in LEADS or word in SHORT_WORDS or len(word) > 3 for word in low):
            raise Unreadable("not mathematics")
        if {"not", "never", "than", "least", "most", "or", "either"} & set(low):
            raise Unreadable("hedged" if "or" in low else "not one value")
        negative = low[-1:] in (["minus"], ["negative"])
        if self.peek().kind in _RELATIONS:
            return Node("text", value=" ".join(words))
        node = self.part()
        return Node("mul", (number(-1), node)) if negative else node

    def _starts_product(self) -> bool:
        """Whether a letter begins a formula and is not part of a sentence."""
        return self.peek().kind == "letter" and self.peek(1).kind not in ("word", "letter", "end", ",", ".", ")")


_OPERATORS: dict[str, str] = {"==": "=", "<>": "!=", "->": "=>"}


def _bracketed(opening: str, closing: str, items: tuple[Node, ...]) -> Node:
    kinds = {("(", ")"): "tuple", ("<<", ">>"): "tuple", ("[", "]"): "bracket"}
    if kind := kinds.get((opening, closing)):
        return Node(kind, items)
    if len(items) != 2 or opening == "<<" or closing == ">>":
        raise Unreadable("brackets that do not match")
    left, right = ("(" if opening == "]" else opening), (")" if closing == "[" else closing)
    same = {"()": "tuple", "[]": "bracket"}.get(left + right)
    return Node(same, items) if same else Node("interval", items, left + right)


def _in_words(words: list[str]) -> Node:
    """Words as a number, a number with its unit (`five apples`), or a text."""
    low = [word.lower() for word in words]
    for count in range(len(low), 0, -1):
        value = _spoken(low[:count])
        if value is not None:
            rest = tuple(words[count:])
            return Node("quantity", (number(value),), rest) if rest else number(value)
    return Node("text", value=" ".join(words))


def _spoken(words: list[str]) -> Fraction | None:
    """The number that words spell: `one million`, `twenty five`; None when they spell none."""
    total = part = 0
    seen = False
    for word in words:
        if word == "and" and seen:
            continue
        if word in NUMBER_WORDS:
            part += NUMBER_WORDS[word]
        elif word == "hundred":
            part = max(1, part) * 100
        elif word in SCALES:
            total, part = total + max(1, part) * SCALES[word], 0
        else:
            return None
        seen = True
    return Fraction(total + part) if seen else None


def _says_only_real(condition: Node) -> bool:
    """Whether a condition is `x ∈ ℝ` and nothing else."""
    return condition.head == "rel" and condition.value == ("in",) and condition.args[1].value in ("RR", "CC")
