"""What a release gate found, as `release.json` holds it: bounds, findings, artefacts, and the trained model."""

from __future__ import annotations

from pydantic import Field

from ponder.core.types import Json, Record


class Bounds(Record):
    """Most that an artefact may differ; what breaks one does not leave."""

    accuracy_loss: float = Field(default=0.05, ge=0.0, le=1.0)
    """Of the share of right answers, paired: the interval's end that is worst for the artefact must lie within."""
    problems: int = Field(default=300, ge=1)
    """Fewest judged problems on which accuracy is believed."""
    divergence: float = Field(default=0.1, ge=0.0)
    """Mean Kullback-Leibler divergence of the next-token distribution, nats per token."""
    agreement: float = Field(default=0.95, ge=0.0, le=1.0)
    """Fewest places, as a share, whose likeliest token is the same."""
    thinking_length: float = Field(default=0.15, ge=0.0)
    """Change of the mean number of thinking tokens, as a share of the trained model's."""
    truncation: float = Field(default=0.03, ge=0.0, le=1.0)
    """Rise of the share of answers that were cut off."""
    loops: float = Field(default=0.02, ge=0.0, le=1.0)
    """Rise of the share of answers that end in a repetition."""
    thinking: float = Field(default=0.05, ge=0.0, le=1.0)
    """Fall of the share of answers whose thought is opened and closed."""
    uncomposed: bool = False
    """Bear with a runtime that lacks the tokenizer's normaliser (NFC): compose text before it is asked."""
    bytes: int | None = Field(default=None, ge=1)
    """Size on disk."""
    memory_bytes: int | None = Field(default=None, ge=1)
    """Peak memory of a process that answers."""
    tokens_per_second: float | None = Field(default=None, ge=0.0)
    """Least of a single stream, on this machine."""


class Finding(Record):
    """What one check of the gate found."""

    name: str
    """Of the check: tokenizer, template, bos, end_of_turn, thinking, rotation, weights, ..."""
    passed: bool | None
    """None: it could not be looked at in this runtime, and the text says why."""
    text: str
    """What was found, in a sentence."""
    facts: Json = Field(default_factory=dict)
    """Figures and examples."""


class Judged(Record):
    """An artefact after the gate."""

    form: str
    """As it was asked for: `gguf:q8_0`."""
    file: str
    """File or folder beside `release.json`."""
    sha256: str
    """Of the file, or of the names and contents of the folder's files."""
    bytes: int
    passed: bool
    findings: tuple[Finding, ...]
    speed: Json
    """Load and first token (seconds), tokens per second single and batched, peak memory (bytes), threads, machine."""
    joules_per_answer: float | None = None
    """Idle included; None: not known."""

    def fact(self, check: str, name: str) -> float | None:
        """A figure of a finding, where there is one."""
        value = next((found.facts.get(name) for found in self.findings if found.name == check), None)
        return float(value) if isinstance(value, int | float) else None

    def finding(self, check: str) -> Finding | None:
        """The first finding of a check."""
        return next((found for found in self.findings if found.name == check), None)

    @property
    def broken(self) -> list[Finding]:
        """The findings for which it was refused."""
        return [finding for finding in self.findings if finding.passed is False]


class Origin(Record):
    """The trained model."""

    name: str
    sha256: str
    """Of the names and contents of its files."""
    template: str
    tokenizer: str
    """Hashes, as `core.chat.Chat` makes them."""
    bytes: int
    accuracy: float | None
    low: float | None
    high: float | None
    """Of right answers on the release's problems, with the 95 % interval."""
    n: int
    truncated: float
    thinking_tokens: float
    """Mean of an answer."""
    looping: float
    speed: Json
    joules_per_answer: float | None = None


class Release(Record):
    """Everything that was asked and found."""

    model: Origin
    asked: Json
    """Tasks, splits, number and digest of the problems, sampling, and how many texts and tokens were compared."""
    bounds: Bounds
    code: Json
    """Version of Ponder and hash of its files."""
    packages: Json
    artefacts: tuple[Judged, ...]

    @property
    def passed(self) -> bool:
        """Whether everything may leave."""
        return all(artefact.passed for artefact in self.artefacts)

    def artefact(self, form: str) -> Judged:
        """That of a form."""
        return next(artefact for artefact in self.artefacts if artefact.form == form)
