"""What a teacher across tokenizers could say and what was lost, counted over all that it was asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ponder.core.types import Json


@dataclass(slots=True)
class Coverage:
    """Counts; shares of nothing are 0. Asking about a trace twice counts it twice, and changes no share."""

    traces: int = 0
    tokens: int = 0
    """Of the student's completions."""
    aligned: int = 0
    """Of these, in a group: the teacher's log-probability of the group is known."""
    single: int = 0
    """Of these, alone in their group, opposite a single token of the teacher."""
    asked: int = 0
    """Tokens for which a distribution was asked."""
    rows: int = 0
    """Of these, with a distribution."""
    exact: float = 0.0
    """Sum over rows of the teacher's mass on tokens that the student has too."""
    begun: float = 0.0
    """... on tokens whose spelling the student begins with another one, or that were merged into the student's own."""
    lost: float = 0.0
    """... on tokens that the student cannot begin to spell."""
    unlisted: float = 0.0
    """... beyond the tokens that were looked at."""
    reasons: Counter[str] = field(default_factory=Counter[str])
    """Traces of which the teacher can say nothing, or only of their beginning, by why."""

    @property
    def aligned_share(self) -> float:
        """Student tokens with a statement of log-probability."""
        return self.aligned / max(1, self.tokens)

    @property
    def single_share(self) -> float:
        """Student tokens that are one token for the teacher too."""
        return self.single / max(1, self.tokens)

    @property
    def row_share(self) -> float:
        """Student tokens with a distribution."""
        return self.rows / max(1, self.asked)

    @property
    def mass_share(self) -> float:
        """Mass of the teacher's distributions that is on tokens of the student, exactly or by their beginning."""
        return (self.exact + self.begun) / max(1, self.rows)

    def numbers(self) -> Json:
        """For a summary file: counts, shares of mass and reasons."""
        rows = max(1, self.rows)
        return {
            "traces": self.traces,
            "tokens": self.tokens,
            "aligned_share": self.aligned_share,
            "single_share": self.single_share,
            "row_share": self.row_share,
            "exact_mass": self.exact / rows,
            "begun_mass": self.begun / rows,
            "lost_mass": self.lost / rows,
            "unlisted_mass": self.unlisted / rows,
            "reasons": dict(self.reasons),
        }

    def sentence(self) -> str:
        """What a report says about it."""
        if not self.tokens:
            return "The teacher has another tokenizer; it has not been asked about any token."
        said = (
            f"The teacher has another tokenizer: it spoke about {self.aligned_share:.1%} of {self.tokens} student "
            f"tokens ({self.single_share:.1%} are one token for both)"
        )
        if self.asked:
            rows = max(1, self.rows)
            said += (
                f", and gave a distribution for {self.row_share:.1%}, of whose mass {self.exact / rows:.1%} was on "
                f"tokens of both and {self.begun / rows:.1%} on tokens that only one of them has as one"
            )
        if self.reasons:
            cut = ", ".join(f"{count} {reason}" for reason, count in sorted(self.reasons.items()))
            said += f"; not fully read of {self.traces} traces: {cut}"
        return said + "."
