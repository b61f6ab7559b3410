"""Charts as inline SVG: small, sharp, readable in light and dark, and without a plotting library.

Colours are classes (`c0` to `c7`) that the page's style sheet fills in. Every mark carries a tooltip, and
every string is escaped here, because labels are the names of models and may be anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup, escape

WIDTH = 460
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 20, 34
COLOURS = 8
NAMED = 12
"""Marks beyond which published ones are named only when pointed at."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A value with its bounds."""

    label: str
    value: float
    low: float
    high: float
    colour: int = 0
    hint: str = ""
    """Shown when pointed at."""
    x: float = 0.0
    """Position on the horizontal axis, in charts that have one."""
    hollow: bool = False
    """Published by others, not measured here."""


@dataclass(frozen=True, slots=True)
class Series:
    """Marks of one model, joined by a line."""

    label: str
    colour: int
    marks: Sequence[Mark]


@dataclass(slots=True)
class Svg:
    """Collects shapes; every attribute and text goes through the escape."""

    height: float
    title: str
    width: float = WIDTH
    parts: list[str] = field(default_factory=list)

    def shape(self, tag: str, hint: str = "", **attributes: float | str) -> None:
        """One element; `kind` is its class and `_` in a name stands for `-`."""
        inner = f"<title>{escape(hint)}</title>" if hint else ""
        self.parts.append(f"<{tag}{_attributes(attributes)}>{inner}</{tag}>")

    def text(self, x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> None:
        """A line of text at its baseline."""
        attributes = _attributes({"x": x, "y": y, "kind": kind, "text_anchor": anchor})
        self.parts.append(f"<text{attributes}>{escape(content)}</text>")

    def markup(self) -> Markup:
        """The finished picture."""
        head = f'<svg viewBox="0 0 {_number(self.width)} {_number(self.height)}" role="img" aria-label="'
        return Markup(head + f'{escape(self.title)}">' + "".join(self.parts) + "</svg>")


def bars(title: str, marks: Sequence[Mark]) -> Markup:
    """Shares of one, a bar each, with their intervals as whiskers."""
    row, left = 34, 8
    svg = Svg(len(marks) * row + 22, title)
    right = svg.width - 62
    for position, tick in ((left + (right - left) * tick / 100, tick) for tick in (0, 25, 50, 75, 100)):
        svg.shape("line", x1=position, x2=position, y1=0, y2=svg.height - 18, kind="grid")
        svg.text(position, svg.height - 4, f"{tick} %", "tick", "start" if tick == 0 else "middle")
    for index, mark in enumerate(marks):
        top = index * row + 15
        length, low, high = ((right - left) * share for share in (mark.value, mark.low, mark.high))
        svg.text(left, top - 3, _short(mark.label, 52), "label")
        svg.shape(
            "rect",
            mark.hint,
            x=left,
            y=top,
            width=max(1.0, length),
            height=11,
            rx=2,
            kind=_colour(mark, "bar"),
        )
        svg.shape("line", mark.hint, x1=left + low, x2=left + high, y1=top + 5.5, y2=top + 5.5, kind="whisker")
        for end in (low, high):
            svg.shape("line", x1=left + end, x2=left + end, y1=top + 2, y2=top + 9, kind="whisker")
        svg.text(svg.width - 4, top + 10, f"{100 * mark.value:.1f} %", "value", "end")
    return svg.markup()


def dots(title: str, groups: Sequence[tuple[str, Sequence[Mark]]]) -> Markup:
    """Shares of one by group: a line each, a dot per model with its interval."""
    step, gap, left = 9, 14, 108
    heights = [max(1, len(marks)) * step + gap for _, marks in groups]
    svg = Svg(sum(heights) + 22, title)
    right = svg.width - RIGHT
    for tick in (0, 25, 50, 75, 100):
        position = left + (right - left) * tick / 100
        svg.shape("line", x1=position, x2=position, y1=0, y2=svg.height - 18, kind="grid")
        svg.text(position, svg.height - 4, f"{tick} %", "tick", "end" if tick == 100 else "middle")
    top = 0.0
    for (name, marks), height in zip(groups, heights, strict=True):
        svg.text(left - 8, top + height / 2 + 4, _short(name, 16), "label", "end")
        svg.shape("line", x1=0, x2=right, y1=top + height, y2=top + height, kind="rule")
        for index, mark in enumerate(marks):
            y = top + gap / 2 + step * (index + 0.5)
            x, low, high = (left + (right - left) * share for share in (mark.value, mark.low, mark.high))
            svg.shape("line", mark.hint, x1=low, x2=high, y1=y, y2=y, kind=_colour(mark, "stroke wide"))
            svg.shape("circle", mark.hint, cx=x, cy=y, r=3.6, kind=_colour(mark, "dot"))
        top += height
    return svg.markup()


def forest(title: str, marks: Sequence[Mark]) -> Markup:
    """Differences with their intervals, and where zero is."""
    row = 40
    svg = Svg(len(marks) * row + 28, title)
    low, high = min(0.0, *(mark.low for mark in marks)), max(0.0, *(mark.high for mark in marks))
    pad = 0.06 * (high - low) or 0.05
    x = _Scale(100 * (low - pad), 100 * (high + pad), 8, svg.width - 8)
    for tick in nice_ticks(x.low, x.high, 6):
        svg.shape("line", x1=x(tick), x2=x(tick), y1=0, y2=svg.height - 20, kind="grid" if tick else "zero")
        svg.text(x(tick), svg.height - 5, f"{tick:+g}" if tick else "0", "tick", "middle")
    for index, mark in enumerate(marks):
        y = index * row + 28
        shown = mark.low > 0 or mark.high < 0
        kind = "certain" if shown else "open"
        svg.text(4, y - 13, _short(mark.label, 58), "label")
        ends = {"x1": x(100 * mark.low), "x2": x(100 * mark.high)}
        svg.shape("line", mark.hint, **ends, y1=y, y2=y, kind=f"wide {kind}")
        svg.shape("circle", mark.hint, cx=x(100 * mark.value), cy=y, r=4.5, kind=kind)
        svg.text(svg.width - 4, y - 13, f"{100 * mark.value:+.1f}" if shown else "not shown", "value", "end")
    return svg.markup()


def lines(
    title: str, series: Sequence[Series], x_label: str, shade_from: float | None = None, whole: bool = True
) -> Markup:
    """Shares of one along a count (`whole`) or a measure, a band for the interval; beyond `shade_from` it is shaded."""
    svg = Svg(270, title)
    positions = sorted({mark.x for one in series for mark in one.marks})
    margin = 0.3 if whole else 0.05 * (positions[-1] - positions[0] or 1.0)
    x = _Scale(positions[0] - margin, positions[-1] + margin, LEFT, svg.width - RIGHT)
    y = _Scale(0.0, 1.0, svg.height - BOTTOM, TOP)
    if shade_from is not None and shade_from < positions[-1]:
        start = max(x.low, shade_from + 0.5)
        svg.shape("rect", x=x(start), y=TOP, width=x.end - x(start), height=svg.height - BOTTOM - TOP, kind="beyond")
        svg.text(x.end, TOP - 7, "more steps than trained on", "tick", "end")
    _frame(
        svg,
        x,
        y,
        [int(p) for p in positions if len(positions) <= 16 or p % 2 == 0]
        if whole
        else nice_ticks(positions[0], positions[-1], 6),
        [0, 0.25, 0.5, 0.75, 1],
        x_label,
    )
    for one in series:
        band = [(x(m.x), y(m.high)) for m in one.marks] + [(x(m.x), y(m.low)) for m in reversed(one.marks)]
        svg.shape("path", d=_path(band) + "Z", kind=_colour(one, "band"))
    for one in series:
        svg.shape("path", d=_path([(x(m.x), y(m.value)) for m in one.marks]), kind=_colour(one, "stroke line"))
        for mark in one.marks:
            svg.shape("circle", mark.hint, cx=x(mark.x), cy=y(mark.value), r=3.2, kind=_colour(one, "dot"))
    return svg.markup()


def scatter(
    title: str,
    marks: Sequence[Mark],
    x_label: str,
    unit: str,
    front: Sequence[tuple[float, float]] = (),
    limit: float | None = None,
) -> Markup:
    """Shares of one against a quantity on a logarithmic axis; `front` is joined by steps, and beyond it is nothing.

    What lies beyond `limit` is shaded.
    """
    svg = Svg(250, title)
    logs = [math.log10(mark.x) for mark in marks]
    reach = logs if limit is None else [*logs, math.log10(limit)]
    pad = max(0.15, 0.12 * (max(reach) - min(reach)))
    x = _Scale(min(reach) - pad, max(reach) + pad, LEFT, svg.width - RIGHT)
    y = _Scale(0.0, 1.0, svg.height - BOTTOM, TOP)
    ticks = [t for e in range(math.floor(x.low), math.ceil(x.high) + 1) for t in (10**e, 2 * 10**e, 5 * 10**e)]
    inside = [tick for tick in ticks if x.low <= math.log10(tick) <= x.high]
    _frame(svg, x, y, [], [0, 0.25, 0.5, 0.75, 1], x_label)
    for tick in inside if len(inside) <= 7 else inside[:: len(inside) // 6 + 1]:
        svg.text(x(math.log10(tick)), svg.height - 18, compact(tick) + unit, "tick", "middle")
    if limit is not None:
        edge = x(math.log10(limit))
        svg.shape("rect", x=edge, y=TOP, width=x.end - edge, height=svg.height - BOTTOM - TOP, kind="beyond")
        svg.text(x.end, TOP - 7, f"beyond the limit of {compact(limit)} {unit}".rstrip(), "tick", "end")
    if len(front) > 1:
        svg.shape("path", d=_path(_stairs([(x(math.log10(a)), y(b)) for a, b in sorted(front)])), kind="front")
    taken: list[tuple[float, float]] = []
    for mark, position in zip(marks, logs, strict=True):
        at, right_half = x(position), x(position) > svg.width * 0.62
        bounds = {"y1": y(mark.low), "y2": y(mark.high)}
        if not mark.hollow:
            svg.shape("line", mark.hint, x1=at, x2=at, **bounds, kind=_colour(mark, "stroke wide"))
        size, look = (3.5, "open") if mark.hollow else (5, _colour(mark, "dot"))
        svg.shape("circle", mark.hint, cx=at, cy=y(mark.value), r=size, kind=look)
        if mark.hollow and len(marks) > NAMED:
            continue
        name_at, anchor = (at - 9, "end") if right_half else (at + 9, "start")
        svg.text(name_at, _free_line(taken, at, y(mark.value) + 4), _short(mark.label, 24), "label", anchor)
    return svg.markup()


def curve(title: str, points: Sequence[tuple[float, float, float, float]]) -> Markup:
    """A metric along training steps: (step, mean, lowest, highest) of each stretch."""
    svg = Svg(150, title, width=300)
    xs = [point[0] for point in points]
    low, high = min(point[2] for point in points), max(point[3] for point in points)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    x = _Scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, 48, svg.width - 8)
    y = _Scale(low - margin, high + margin, svg.height - 22, 8)
    for tick in nice_ticks(y.low, y.high, 3):
        svg.shape("line", x1=x.start, x2=x.end, y1=y(tick), y2=y(tick), kind="grid")
        svg.text(x.start - 6, y(tick) + 4, compact(tick), "tick", "end")
    for tick in nice_ticks(x.low, x.high, 4):
        svg.text(x(tick), svg.height - 5, compact(tick), "tick", "middle" if tick > x.low else "start")
    band = [(x(p[0]), y(p[3])) for p in points] + [(x(p[0]), y(p[2])) for p in reversed(points)]
    svg.shape("path", d=_path(band) + "Z", kind="band c1")
    if len(points) == 1:
        svg.shape("circle", cx=x(xs[0]), cy=y(points[0][1]), r=3, kind="dot c1")
    svg.shape("path", d=_path([(x(p[0]), y(p[1])) for p in points]), kind="stroke line c1")
    return svg.markup()


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers between two bounds.

    Example:
        >>> nice_ticks(0, 97, 4)
        [0.0, 20.0, 40.0, 60.0, 80.0]
    """
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        return []
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda factor: abs(factor * power - rough))
    first, last = math.ceil(low / step), math.floor(high / step)
    return [index * step for index in range(first, last + 1)][: 4 * count]


def compact(value: float) -> str:
    """A number for an axis.

    Example:
        >>> [compact(x) for x in (0, 0.05, 1500, 2e6, 3e-5, -40)]
        ['0', '0.05', '1.5k', '2M', '3e-05', '-40']
    """
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{prefix}"
    return f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps values to positions."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (self.end - self.start) * ((value - self.low) / (self.high - self.low))


def _frame(svg: Svg, x: _Scale, y: _Scale, x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str) -> None:
    for tick in y_ticks:
        svg.shape("line", x1=x.start, x2=x.end, y1=y(tick), y2=y(tick), kind="grid" if tick else "axis")
        svg.text(x.start - 6, y(tick) + 4, f"{100 * tick:.0f} %", "tick", "end")
    for tick in x_ticks:
        svg.text(x(tick), svg.height - 18, f"{tick:g}", "tick", "middle")
    svg.text((x.start + x.end) / 2, svg.height - 3, x_label, "tick", "middle")


def _stairs(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of a line that goes right before it goes up."""
    corners = [points[0]]
    for (_, before), (right, height) in pairwise(points):
        corners += [(right, before), (right, height)]
    return corners


def _free_line(taken: list[tuple[float, float]], x: float, y: float) -> float:
    """A label's baseline, moved down past the labels that already stand near it."""
    for _ in range(len(taken)):
        if all(abs(x - other_x) > 120 or abs(y - other_y) >= 13 for other_x, other_y in taken):
            break
        y += 13
    taken.append((x, y))
    return y


def _colour(thing: Mark | Series, kind: str) -> str:
    return f"{kind} c{thing.colour % COLOURS}"


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_number(px)},{_number(py)}" for px, py in points)


def _attributes(values: dict[str, float | str]) -> str:
    pairs = ((("class" if key == "kind" else key.replace("_", "-")), value) for key, value in values.items())
    return "".join(f' {key}="{escape(value) if isinstance(value, str) else _number(value)}"' for key, value in pairs)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
