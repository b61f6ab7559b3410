"""Samples that are drawn together while prompts join and leave: what a server needs of an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set

from ponder.core.types import Completion
from ponder.engines._cohort import Finished, Job
from ponder.engines._decode import Decoder
from ponder.engines._drawing import sequence_key
from ponder.engines._stops import Texts

Place = int
"""Number of a prompt in its session."""


class Session:
    """One batch with one way of sampling; a completion is what `LocalSampler.generate` gives for its seed alone.

    Args:
        decoder: Fresh.
        texts: Of its stop strings.
        check: Refuses the ids of a prompt that the model cannot take.
        complete: Makes a completion of a finished sample and the ids of its prompt.
    """

    def __init__(
        self,
        decoder: Decoder,
        texts: Texts,
        *,
        check: Callable[[tuple[int, ...]], None],
        complete: Callable[[Finished, tuple[int, ...]], Completion],
    ) -> None:
        """Begin empty."""
        self._decoder, self._texts, self._check, self._complete = decoder, texts, check, complete
        self._prompts: dict[Place, tuple[int, ...]] = {}
        self._left: dict[Place, int] = {}
        self._added = 0
        self._running: Iterator[list[Finished]] = iter(())

    @property
    def empty(self) -> bool:
        """Whether nothing is left to be drawn."""
        return not self._left

    def add(self, ids: Sequence[int], seed: int, samples: int) -> Place:
        """Ask for samples 0, 1, ... of a prompt; they enter the batch when there is room.

        Raises:
            ConfigurationError: If the prompt is empty or too long for the model.
            ResourceError: If one sample exceeds the memory budget.
        """
        prompt, place = tuple(ids), self._added
        self._check(prompt)
        keys = tuple(sequence_key(seed, prompt, sample) for sample in range(samples))
        job = Job(place, prompt, range(samples), keys)
        self._decoder.check(job)
        self._decoder.add([job])
        self._prompts[place], self._left[place] = prompt, samples
        self._added += 1
        return place

    def drop(self, places: Set[Place]) -> None:
        """Forget prompts and what was drawn for them."""
        self._decoder.drop(places)
        for place in places & self._left.keys():
            self._forget(place)

    def step(self) -> list[tuple[Place, int, Completion]]:
        """One more token for everything that is alive; (prompt, sample, completion) of what finished with it.

        Raises:
            PonderError: If logits are not finite; the session is then of no more use.
        """
        finished = next(self._running, None)
        if finished is None:
            self._running = self._decoder.run(())
            finished = next(self._running, [])
        found = []
        for one in finished:
            if one.prompt not in self._left:  # dropped while its first token was being drawn
                continue
            found.append((one.prompt, one.sample, self._complete(one, self._prompts[one.prompt])))
            self._left[one.prompt] -= 1
            if self._left[one.prompt] == 0:
                self._forget(one.prompt)
        return found

    def settled(self, places: Set[Place]) -> Iterator[tuple[Place, int, str]]:
        """(prompt, sample, text) of the living samples of some prompts, as far as nothing can take it back."""
        for cohort in self._decoder.cohorts:
            for row, (place, sample) in enumerate(cohort.members()):
                if place in places:
                    yield place, sample, self._texts.settled(cohort.sampled(row))

    def _forget(self, place: Place) -> None:
        del self._left[place], self._prompts[place]
