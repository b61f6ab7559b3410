"""The card of a trained model: where it comes from, under which terms, what was measured, and what was not.

What is not known is said to be unknown, and terms that forbid training stand at the top.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import yaml

from ponder.core.types import Json
from ponder.measure.contamination.overlap import overlap_lines
from ponder.measure.terms import UNKNOWN, Terms
from ponder.report.table import plain
from ponder.runs.files import megabytes

MAX_TEXT = 200
_SPECIAL = re.compile(r"([\\`*_\[\]|#])")


@dataclass(frozen=True, slots=True)
class Step:
    """One stage on the way from the base model to this one, of data or of training."""

    name: str
    use: str
    counts: Mapping[str, int] = field(default_factory=dict)
    """What it kept and dropped, by reason."""
    tasks: Sequence[str] = ()
    """Whose verifiers decided what was right."""
    contamination: Json | None = None
    """The table of what stood in a benchmark; None where nothing was compared."""


@dataclass(frozen=True, slots=True)
class Score:
    """One line of an evaluation."""

    model: str
    own: bool
    """Whether this model made it, and not one beside it."""
    where: str
    """Stage, split and task."""
    n: int
    rate: float | None
    """None: withheld, or not measured."""
    low: float | None = None
    high: float | None = None
    truncated: float | None = None
    unknown: float | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """An artefact that passed the release gate, beside the model it was made of."""

    name: str
    """File or folder."""
    bytes: int
    n: int
    """Problems, answered by both."""
    accuracy: float | None
    difference: float | None
    low: float | None
    high: float | None
    """Of the share of right answers, paired, with its 95 % interval."""
    nats: float | None
    """Mean divergence of the next token's distribution; None: not to be seen in its runtime."""
    agreement: float | None
    joules: float | None
    """Of an answer on the machine of the gate, idle included; None: not known."""
    memory_bytes: int | None
    """Peak of a process that answers."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a card says."""

    name: str
    base: str
    base_terms: Terms = UNKNOWN
    parameters: int | None = None
    seed: int | None = None
    steps: Sequence[Step] = ()
    """Everything that was done on the way, data included, in order."""
    line: Sequence[str] = ()
    """Names of the stages that trained, in order; this model's is the last."""
    teachers: Mapping[str, Terms] = field(default_factory=dict)
    """Whose answers it learnt from, with their terms."""
    scores: Sequence[Score] = ()
    forms: Sequence[Form] = ()
    """What is shipped of it."""
    version: str = ""
    """Of Ponder."""


def model_card(facts: Facts) -> str:
    """A model card in Markdown, its metadata first; nothing in a name can break out of its place."""
    blocks = [
        f"---\n{yaml.safe_dump(_metadata(facts), sort_keys=False, allow_unicode=True)}---",
        f"# {_safe(facts.name)}",
        *_warnings(facts),
        _origin(facts),
        "## Terms\n" + _terms_table(facts),
        "## Data\n" + _data(facts),
        "## Contamination\n" + _contamination(facts),
        "## Evaluation\n" + _evaluation(facts),
        "## Forms\n" + _forms(facts) if facts.forms else "",
        "## Limits\n" + "\n".join(f"- {line}" for line in _limits(facts)),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _metadata(facts: Facts) -> Json:
    every = [facts.base_terms, *facts.teachers.values()]
    plain_terms = facts.base_terms.licence is not None and all(terms.training == "allowed" for terms in every)
    return {
        "base_model": plain(facts.base, MAX_TEXT),
        "license": facts.base_terms.licence if plain_terms else "other",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["reasoning", "ponder"],
    }


def _warnings(facts: Facts) -> list[str]:
    """Terms that forbid training, then those that nobody knows."""
    blocks: list[str] = []
    for label, terms in facts.teachers.items():
        if terms.training == "forbidden":
            note = f" ({_safe(terms.note)})" if terms.note else ""
            blocks.append(
                f"> **The terms of {_safe(label)} forbid training on its answers{note}, and this model was trained on "
                "them. Do not pass it on before that is settled.**"
            )
    unknown = [label for label, terms in facts.teachers.items() if terms.training == "unknown"]
    if unknown:
        blocks.append(
            f"> Whether the answers of {', '.join(map(_safe, unknown))} may be learnt from is not known: look their "
            "terms up before you pass this model on."
        )
    return blocks


def _origin(facts: Facts) -> str:
    way = " -> ".join(map(_safe, [facts.base, *facts.line]))
    size = f", {facts.parameters:,} parameters" if facts.parameters else ""
    seed = f", seed {facts.seed}" if facts.seed is not None else ""
    made = f" with Ponder {_safe(facts.version)}" if facts.version else ""
    return f"Made{made} from {_safe(facts.base)}{size}{seed}: {way}."


def _terms_table(facts: Facts) -> str:
    lines = ["| who | role | licence | training on its answers | conditions | according to |", f"|{'---|' * 6}"]
    rows = [(facts.base, "base model", facts.base_terms)]
    rows += [(label, "teacher", terms) for label, terms in facts.teachers.items()]
    for label, role, terms in rows:
        training = terms.training if role == "teacher" else "-"
        cells = (label, role, terms.licence or "unknown", training, terms.note or "-", terms.source or "-")
        lines.append("| " + " | ".join(map(_safe, cells)) + " |")
    return "\n".join(lines)


def _data(facts: Facts) -> str:
    lines: list[str] = []
    for step in facts.steps:
        counts = ", ".join(f"{count:,} {_safe(reason)}" for reason, count in step.counts.items() if count)
        judged = f"; judged by the verifiers of {', '.join(map(_safe, step.tasks))}" if step.tasks else ""
        lines.append(f"- {_safe(step.name)}: {counts or 'no counts stored'}{judged}")
    return "\n".join(lines) or "Not known."


def _contamination(facts: Facts) -> str:
    tables = [(step.name, step.contamination) for step in facts.steps if step.contamination is not None]
    if not tables:
        return "Not checked: the training data were compared with no benchmark."
    blocks = []
    for name, table in tables:
        listed = "\n".join(overlap_lines(table)).replace("```", "'''")
        blocks.append(f"{_safe(name)}:\n```\n{listed}\n```")
    return "\n\n".join(blocks)


def _evaluation(facts: Facts) -> str:
    if not facts.scores:
        return "Not evaluated in this run."
    lines = ["| model | where | n | accuracy | 95 % interval | truncated | not judged |", f"|---|---|{'--:|' * 5}"]
    for score in facts.scores:
        name = f"**{_safe(score.model)}**" if score.own else _safe(score.model)
        interval = "-"
        if score.rate is not None and score.low is not None and score.high is not None:
            interval = f"{_percent(score.low)} to {_percent(score.high)}"
        cells = (_percent(score.rate), interval, _percent(score.truncated), _percent(score.unknown))
        lines.append(f"| {name} | {_safe(score.where)} | {score.n:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _forms(facts: Facts) -> str:
    """What each form lost against the trained model, on the same problems."""
    head = ("file", "size", "memory", "accuracy", "lost or won (points)", "95 % interval", "nats per token",
            "same likeliest token", "joules per answer", "n")  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", f"|---|{'--:|' * (len(head) - 1)}"]
    for form in facts.forms:
        interval = "-" if form.low is None or form.high is None else f"{100 * form.low:+.1f} to {100 * form.high:+.1f}"
        cells = (
            megabytes(form.bytes),
            "-" if form.memory_bytes is None else megabytes(form.memory_bytes),
            _percent(form.accuracy),
            "-" if form.difference is None else f"{100 * form.difference:+.1f}",
            interval,
            "-" if form.nats is None else f"{form.nats:.2g}",
            _percent(form.agreement),
            "-" if form.joules is None else f"{form.joules:.2g}",
            f"{form.n:,}",
        )
        lines.append(f"| {_safe(form.name)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _limits(facts: Facts) -> list[str]:
    lines = ["It was measured on the tasks above, in the form in which they ask; anywhere else it may be worse."]
    own = [score for score in facts.scores if score.own]
    if not own:
        lines.append("No evaluation of this model is stored with it: nothing is known of how well it answers.")
    elif all(score.n < 100 for score in own):
        lines.append("It was measured on fewer than 100 problems: the intervals are wide.")
    if not any(step.contamination for step in facts.steps):
        lines.append("Its training data were not compared with benchmarks: a good score may be memory.")
    if facts.forms:
        lines.append("The forms were compared with the trained model in one runtime each; others may differ.")
    lines.append("Its reasoning is text like any other: it may be wrong where the answer is right.")
    return lines


def _percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f} %"


def _safe(text: object) -> str:
    """A text that is only text in Markdown, in HTML, and in a cell of a table."""
    return _SPECIAL.sub(r"\\\1", html.escape(plain(text, MAX_TEXT), quote=False))
