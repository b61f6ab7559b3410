"""The record of a release: what was asked, of what, with which code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ponder.core.types import Json
from ponder.measure.release import Judged, Origin, Release
from ponder.measure.scores import summarise
from ponder.runs.keys import code_version
from ponder.runs.manifest import package_versions
from ponder.stages._release.candidates import bytes_of, digest_of_artefact
from ponder.stages._release.gate import Trained

TOOLS = ("gguf", "xllamacpp", "onnxruntime-genai", "executorch", "playwright")
"""Packages that write or run artefacts."""


def release_record(
    name: str,
    trained: Trained,
    speed: Json,
    artefacts: Sequence[Judged],
    asked: Json,
    joules: Mapping[str, float | None],
) -> Release:
    """Everything in one record.

    Args:
        name: Of the model, for people.
        trained: It.
        speed: Its own, as `measured_speed` gives it.
        artefacts: After the gate.
        asked: What they were asked.
        joules: Of an answer, by label.
    """
    counted = summarise(list(trained.answered.answers))
    return Release(
        model=Origin(
            name=name,
            sha256=digest_of_artefact(trained.folder),
            template=trained.chat.digest,
            tokenizer=trained.chat.tokens_digest,
            bytes=bytes_of(trained.folder),
            accuracy=counted["accuracy"],
            low=counted["low"],
            high=counted["high"],
            n=counted["n"],
            truncated=counted["truncated"],
            thinking_tokens=trained.answered.thinking_tokens,
            looping=trained.answered.looping,
            speed=speed,
            joules_per_answer=joules.get("trained"),
        ),
        asked={**asked, "texts": len(trained.texts), "tokens": trained.tokens},
        bounds=trained.bounds,
        code=code_version(),
        packages=package_versions(TOOLS),
        artefacts=tuple(one.model_copy(update={"joules_per_answer": joules.get(one.form)}) for one in artefacts),
    )
