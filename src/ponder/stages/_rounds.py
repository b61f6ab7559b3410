"""Sampling in rounds: every problem is asked until it has enough right answers, along a ladder of temperatures.

A round asks every problem that is still open for the same samples, so that what is drawn is a function of the seed,
the problem and the number of the sample: never of the other problems, of the chunk, or of a kill in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ponder.core.protocols import Sampler, Verifier, Watch
from ponder.core.seeds import derive_seed
from ponder.core.types import Completion, Messages, Outcome, Problem, Sampling, Trace
from ponder.learn.rollout import judge
from ponder.runs.ledger import count_completions


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often, and at which temperatures, each problem is asked."""

    sampling: Sampling
    """Of the first round; its temperature holds where there is no ladder."""
    samples: int
    """Completions per problem at most."""
    temperatures: tuple[float, ...] = ()
    """Sample i is drawn at the i-th, and again from the first; empty: all alike."""
    enough_correct: int | None = None
    """A problem with so many right answers is not asked again; None asks for all samples at once."""

    @property
    def first(self) -> int:
        """Samples of the first round, which every problem is asked for."""
        return min(self.samples, self.enough_correct or self.samples)

    def draw(
        self,
        sampler: Sampler,
        problems: Sequence[Problem],
        verifiers: Mapping[str, Verifier],
        label: str,
        watch: Watch | None = None,
    ) -> list[list[Trace]]:
        """The judged traces of every problem, in the order of its samples; `label` is their sampler."""
        drawn: list[list[Trace]] = [[] for _ in problems]
        for number, first in enumerate(range(0, self.samples, self.first)):
            places = [place for place, traces in enumerate(drawn) if not self._enough(traces)]
            if not places:
                break
            numbers = range(first, min(first + self.first, self.samples))
            groups = self._ask(sampler, [problems[place].messages for place in places], number, numbers, watch)
            for place, completions in zip(places, groups, strict=True):
                problem = problems[place]
                drawn[place] += [judge(problem, each, verifiers[problem.task], {}, label) for each in completions]
        return drawn

    def _enough(self, traces: Sequence[Trace]) -> bool:
        if self.enough_correct is None:
            return False
        return sum(trace.verdict.outcome is Outcome.CORRECT for trace in traces) >= self.enough_correct

    def _ask(
        self, sampler: Sampler, prompts: Sequence[Messages], number: int, numbers: range, watch: Watch | None
    ) -> list[list[Completion]]:
        """One round: for every prompt the completions with these numbers."""
        found: list[dict[int, Completion]] = [{} for _ in prompts]
        for rung, (temperature, members) in enumerate(self._rungs(numbers)):
            sampling = self._sampling(number, rung, temperature)
            groups = sampler.generate(prompts, len(members), sampling, watch)
            count_completions(groups)
            for own, group in zip(found, groups, strict=True):
                own.update(zip(members, (self._marked(each, temperature) for each in group), strict=True))
        return [[own[place] for place in numbers] for own in found]

    def _rungs(self, numbers: range) -> Iterator[tuple[float | None, list[int]]]:
        """The samples of a round by temperature, in the order of the ladder."""
        if not self.temperatures:
            yield None, list(numbers)
            return
        rungs: dict[float, list[int]] = {}
        for place in numbers:
            rungs.setdefault(self.temperatures[place % len(self.temperatures)], []).append(place)
        yield from rungs.items()

    def _sampling(self, number: int, rung: int, temperature: float | None) -> Sampling:
        """The first call of all draws with the seed itself, so that one round is a run without rounds."""
        changes: dict[str, object] = {} if temperature is None else {"temperature": temperature}
        if number or rung:
            changes["seed"] = derive_seed(self.sampling.seed, "round", number, rung)
        return self.sampling.model_copy(update=changes)

    def _marked(self, completion: Completion, temperature: float | None) -> Completion:
        return completion if temperature is None else completion.model_copy(update={"temperature": temperature})
