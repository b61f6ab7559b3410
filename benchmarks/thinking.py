"""What votes that end early leave undrawn, and what breaking loops changes; counted from stored evaluations.

    ponder evaluate --model pocket-teacher --task skills --limit 50 --samples 8 --out votes
    python -m benchmarks.thinking votes votes
    ponder evaluate --model pocket-base --task skills --limit 50 --protocol greedy --out plain
    ponder evaluate --model pocket-base --task skills --limit 50 --protocol greedy --set break_loops=true --out broken
    python -m benchmarks.thinking loops plain broken

Nothing is drawn here, so counting costs a second and may be done again.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean

from benchmarks.turns import publish
from ponder.core.loops import repeats
from ponder.core.types import Completion, Finish, Json, Outcome, Trace
from ponder.measure.stats import paired_difference
from ponder.measure.stored import stored_trace
from ponder.report.evaluations import find_evaluations
from ponder.serve.ballot import Ballot, chosen
from ponder.serve.engine import Answer


def vote(group: Sequence[Trace]) -> Json:
    """One problem's vote, its answers in the order in which they are numbered.

    Returns:
        `single` and `majority`: whether sample 0, and the told answer of all, are right. `early`: whether the one told
        of those that were drawn before the vote was decided is. `drawn`: those, asked for one after another.
        `tokens`: of all. `together`: of all until the vote is decided, if every answer grows by a token at a time, as
        in the server.
    """
    votes = len(group)
    drawn = _until_decided(group, votes)
    by_length = sorted(group, key=_length)  # the order in which they are finished
    last = _length(by_length[_until_decided(by_length, votes) - 1])
    return {
        "single": _right(group[0]),
        "majority": _right(_told(group, votes)),
        "early": _right(_told(group[:drawn], votes)),
        "votes": votes,
        "drawn": drawn,
        "tokens": sum(map(_length, group)),
        "together": sum(min(_length(trace), last) for trace in group),
    }


def vote_rows(traces: Iterable[tuple[int, Trace]]) -> list[Json]:
    """Every problem's vote, from (number of the sample, trace)."""
    groups: dict[tuple[str, str], dict[int, Trace]] = defaultdict(dict)
    for sample, trace in traces:
        groups[trace.problem.task, trace.problem.id][sample] = trace
    return [vote([group[sample] for sample in sorted(group)]) for group in groups.values()]


def count_votes(rows: Sequence[Json]) -> Json:
    """Shares of all votes; differences with a 95 % interval over problems."""
    gain = paired_difference([row["single"] for row in rows], [row["majority"] for row in rows])
    return {
        "problems": len(rows),
        **{name: mean(row[name] for row in rows) for name in ("single", "majority", "early")},
        "gain": list(gain.interval),
        "p": gain.p,
        "not_drawn": 1 - sum(row["drawn"] for row in rows) / sum(row["votes"] for row in rows),
        "tokens_saved": 1 - sum(row["together"] for row in rows) / sum(row["tokens"] for row in rows),
    }


def count_loops(traces: Sequence[Trace]) -> Json:
    """Shares of one model's answers: right, cut at the limit, cut in a loop, with a forced token in them."""
    cut = [trace for trace in traces if trace.completion.finish is Finish.LENGTH]
    return {
        "answers": len(traces),
        "right": sum(map(_right, traces)) / len(traces),
        "cut": len(cut) / len(traces),
        "looping": sum(ends_in_a_loop(trace.completion) for trace in cut) / len(traces),
        "steered": sum(bool(trace.completion.forced) for trace in traces) / len(traces),
        "right_when_steered": sum(_right(trace) for trace in traces if trace.completion.forced),
        "tokens": mean(map(_length, traces)),
    }


def ends_in_a_loop(completion: Completion) -> bool:
    """Whether the characters of a text repeat themselves at its end."""
    return repeats(completion.text)


def _until_decided(group: Sequence[Trace], votes: int) -> int:
    """Answers that are counted before no other can overtake the leading one."""
    ballot = Ballot(votes)
    for count, trace in enumerate(group, 1):
        ballot.add(trace.completion)
        if ballot.decided:
            return count
    return len(group)


def _told(group: Sequence[Trace], votes: int) -> Trace:
    answers = [Answer(place, trace.completion, None) for place, trace in enumerate(group)]
    told = chosen(answers, votes)[0].completion
    return next(trace for trace in group if trace.completion is told)


def _right(trace: Trace) -> bool:
    return trace.verdict.outcome is Outcome.CORRECT


def _length(trace: Trace) -> int:
    return trace.completion.usage.completion_tokens


def _traces(folder: Path) -> dict[str, list[tuple[int, Trace]]]:
    """(number of the sample, trace) by label."""
    found: dict[str, list[tuple[int, Trace]]] = defaultdict(list)
    for evaluation in find_evaluations(folder):
        for label, row in evaluation.rows():
            found[label].append((row["sample"], stored_trace(row)))
    return found


def main() -> None:
    """Count, show and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["votes", "loops"])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    results: Json = {}
    for folder in asked.folders:
        for label, traces in _traces(folder).items():
            counted = count_votes(vote_rows(traces)) if asked.what == "votes" else count_loops([t for _, t in traces])
            results[f"{folder.name}/{label}"] = counted
            print(f"{folder.name}/{label}")
            for name, value in counted.items():
                numbers = value if isinstance(value, list) else [value]
                print(f"  {name:18}", *(f"{number:.4g}" for number in numbers))
    publish(f"thinking {asked.what}", results, asked.json)


if __name__ == "__main__":
    sys.exit(main())
