"""Whether an artefact answers as the trained model did on the same problems: as right, as long, as surely ending."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ponder.core.loops import repeats
from ponder.core.types import Finish, Json, Outcome, Trace
from ponder.measure.release import Bounds, Finding
from ponder.measure.scores import Answer as Counted
from ponder.measure.scores import ProblemKey, answer_of, paired, summarise

WORST = 10
"""Traces that are kept of an artefact."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One model's answers to all problems."""

    traces: Sequence[Trace]
    answers: Sequence[Counted]

    @classmethod
    def of(cls, traces: Iterable[Trace]) -> Answered:
        """Count every trace as the result tables do."""
        kept = list(traces)
        return cls(kept, [answer_of(trace) for trace in kept])

    def share(self, flags: Iterable[bool]) -> float:
        """Of the answers."""
        return sum(flags) / max(1, len(self.answers))

    @property
    def thinking_tokens(self) -> float:
        """Mean of an answer."""
        return sum(answer.thinking_tokens for answer in self.answers) / max(1, len(self.answers))

    @property
    def looping(self) -> float:
        """Share that ends in a repetition."""
        return self.share(repeats(trace.completion.text.split()) for trace in self.traces)


def behaviour_findings(trained: Answered, artefact: Answered, bounds: Bounds) -> list[Finding]:
    """Accuracy, end of turn, thinking, its length, truncation and loops."""
    return [
        accuracy_finding(trained, artefact, bounds),
        _ending(trained, artefact, bounds),
        _thinking(trained, artefact, bounds),
        _length(trained, artefact, bounds),
        _loops(trained, artefact, bounds),
    ]


def accuracy_finding(trained: Answered, artefact: Answered, bounds: Bounds) -> Finding:
    """Paired by problem: how much worse the artefact may be, at the far end of the interval."""
    pair = paired("trained", "artefact", list(trained.answers), list(artefact.answers), {})
    own, before = summarise(list(artefact.answers)), summarise(list(trained.answers))
    facts: Json = {
        "accuracy": own["accuracy"],
        "low": own["low"],
        "high": own["high"],
        "trained_accuracy": before["accuracy"],
        "n": pair.difference.n,
        "withheld": pair.withheld,
    }
    if pair.withheld is not None or pair.difference.n < 1:
        return Finding(name="accuracy", passed=False, text=pair.withheld or "no problem was judged", facts=facts)
    estimate, low, high = pair.difference.interval
    facts |= {"difference": estimate, "difference_low": low, "difference_high": high, "p": pair.difference.p}
    if pair.difference.n < bounds.problems:
        text = f"{pair.difference.n} problems were judged, and {bounds.problems} are the fewest to believe"
        return Finding(name="accuracy", passed=False, text=text, facts=facts)
    text = (
        f"{100 * own['accuracy']:.1f} % right beside {100 * before['accuracy']:.1f} %: "
        f"{100 * estimate:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}, n = {pair.difference.n}, paired)"
    )
    return Finding(name="accuracy", passed=low >= -bounds.accuracy_loss, text=text, facts=facts)


def worst_traces(trained: Answered, artefact: Answered) -> list[Json]:
    """The answers that differ the most: right ones lost first, then those that leave the trained answer earliest."""
    before = {_key(trace): trace for trace in trained.traces}
    rows: list[tuple[tuple[bool, bool, int], Json]] = []
    for trace in artefact.traces:
        original = before.get(_key(trace))
        if original is None or original.completion.text == trace.completion.text:
            continue
        lost = original.verdict.outcome is Outcome.CORRECT and trace.verdict.outcome is not Outcome.CORRECT
        looped = repeats(trace.completion.text.split())
        shared = _shared(original.completion.text, trace.completion.text)
        row: Json = {
            "id": trace.problem.id,
            "task": trace.problem.task,
            "answer": trace.problem.answer,
            "lost": lost,
            "loop": looped,
            "same_characters": shared,
            "prompt": [turn.model_dump(exclude_none=True) for turn in trace.problem.messages],
            "trained": original.completion.text,
            "artefact": trace.completion.text,
        }
        rows.append(((not lost, not looped, shared), row))
    return [row for _, row in sorted(rows, key=lambda item: item[0])[:WORST]]


def _ending(trained: Answered, artefact: Answered, bounds: Bounds) -> Finding:
    """Turns that the trained model ended, and the artefact did not."""
    ended = {_key(trace) for trace in trained.traces if trace.completion.finish is Finish.STOP}
    open_still = [t for t in artefact.traces if _key(t) in ended and t.completion.finish is not Finish.STOP]
    share = len(open_still) / max(1, len(ended))
    rise = artefact.share(a.truncated for a in artefact.answers) - trained.share(a.truncated for a in trained.answers)
    facts: Json = {"ended": len(ended), "not_ended": len(open_still), "share": share, "truncation_rise": rise}
    if not ended:
        text = "the trained model itself ended no turn, so nothing is known of the artefact's end of turn"
        return Finding(name="end_of_turn", passed=False, text=text, facts=facts)
    text = f"{len(open_still)} of {len(ended)} turns that the trained model ended were cut off"
    return Finding(name="end_of_turn", passed=max(share, rise) <= bounds.truncation, text=text, facts=facts)


def _thinking(trained: Answered, artefact: Answered, bounds: Bounds) -> Finding:
    """Thoughts that are opened and closed."""
    before = trained.share(a.reasons and not a.truncated for a in trained.answers)
    now = artefact.share(a.reasons and not a.truncated for a in artefact.answers)
    text = f"{100 * now:.1f} % of the answers have a whole thought, beside {100 * before:.1f} %"
    facts: Json = {"share": now, "trained_share": before}
    return Finding(name="thinking", passed=before - now <= bounds.thinking, text=text, facts=facts)


def _length(trained: Answered, artefact: Answered, bounds: Bounds) -> Finding:
    before, now = (side.thinking_tokens for side in (trained, artefact))
    change = now / before - 1 if before else float(now > 0)
    text = f"thoughts of {now:.1f} tokens on average, beside {before:.1f} ({100 * change:+.1f} %)"
    facts: Json = {"mean_tokens": now, "trained_mean_tokens": before, "change": change}
    return Finding(name="thinking_length", passed=abs(change) <= bounds.thinking_length, text=text, facts=facts)


def _loops(trained: Answered, artefact: Answered, bounds: Bounds) -> Finding:
    """Answers that end in a repetition."""
    before, now = trained.looping, artefact.looping
    text = f"{100 * now:.1f} % of the answers end in a repetition, beside {100 * before:.1f} %"
    facts: Json = {"share": now, "trained_share": before}
    return Finding(name="loops", passed=now - before <= bounds.loops, text=text, facts=facts)


def _key(trace: Trace) -> ProblemKey:
    return str(trace.problem.meta.get("split", "")), trace.problem.task, trace.problem.id


def _shared(a: str, b: str) -> int:
    """Characters that two texts begin with alike."""
    return next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
