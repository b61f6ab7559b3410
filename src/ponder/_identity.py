"""What a stage's result depends on, stored beside it, and how two of these differ."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ponder.core.types import Json, Record
from ponder.recipe import Recipe, StageChoice, references
from ponder.runs.keys import Fingerprint, code_version, digest_of, fingerprint
from ponder.stages._stage import Stage


class Identity(Record):
    """Everything that goes into a stage's key."""

    key: str
    use: str
    written: Json
    """Settings as the recipe wrote them."""
    settings: Json
    """All settings, defaults included."""
    seed: int
    """The run's."""
    earlier: tuple[str, ...]
    """Names of the stages that ran before it."""
    reads: dict[str, str]
    """Key of every earlier stage that it reads."""
    files: dict[str, Fingerprint]
    """Local inputs by the path that names them."""
    code: Json


def identity_of(
    stage: Stage, choice: StageChoice, recipe: Recipe, keys: Mapping[str, str], stored: Identity | None = None
) -> Identity:
    """The identity of a stage as it would run now.

    Args:
        stage: The resolved stage.
        choice: The stage as written.
        recipe: The recipe around it.
        keys: Keys of the stages before it.
        stored: Its earlier identity, which spares reading large files that did not change.
    """
    settings = stage.model_dump(mode="json")
    decisive = {name: value for name, value in settings.items() if name not in stage.observers}
    known = stored.files if stored is not None else {}
    named = [target for _, target in references(stage)]
    reads = {target: keys[target] for target in named if target in keys}
    paths = dict.fromkeys(
        path for path in (*named, *_texts(decisive), *_modules(choice.use, decisive)) if _is_input(path, keys)
    )
    files = {path: fingerprint(Path(path).expanduser(), known.get(path)) for path in paths}
    content = [
        choice.use,
        decisive,
        recipe.seed,
        reads,
        {p: f.digest for p, f in files.items()},
        code_version(),
    ]
    return Identity(
        key=digest_of(content),
        use=choice.use,
        written=choice.fields,
        settings=settings,
        seed=recipe.seed,
        earlier=recipe.earlier(choice.name),
        reads=reads,
        files=files,
        code=code_version(),
    )


def key_without_import(stored: Identity, choice: StageChoice, recipe: Recipe, keys: Mapping[str, str]) -> str | None:
    """The stored key when nothing it depends on changed, judged without importing anything; or None."""
    now = (choice.use, choice.fields, recipe.seed, recipe.earlier(choice.name), code_version())
    if now != (stored.use, stored.written, stored.seed, stored.earlier, stored.code):
        return None
    if any(keys.get(name) != key for name, key in stored.reads.items()):
        return None
    for path, mark in stored.files.items():
        place = Path(path).expanduser()
        if not place.exists() or fingerprint(place, mark).digest != mark.digest:
            return None
    return stored.key


def differences(old: Identity, new: Identity, stage: str) -> Iterator[str]:
    """What changed, a line each."""
    before, after = dict(_flat(old.settings)), dict(_flat(new.settings))
    for key in dict.fromkeys((*before, *after)):
        if before.get(key) != after.get(key):
            yield f"stage.{stage}.{key}: {_shown(before, key)} -> {_shown(after, key)}"
    if old.use != new.use:
        yield f"stage.{stage}.use: {old.use} -> {new.use}"
    if old.seed != new.seed:
        yield f"seed: {old.seed} -> {new.seed}"
    for path in dict.fromkeys((*old.files, *new.files)):
        mark, mark_now = old.files.get(path), new.files.get(path)
        if mark is None or mark_now is None or mark.digest != mark_now.digest:
            yield f"the content of {path}"
    for name in dict.fromkeys((*old.reads, *new.reads)):
        if old.reads.get(name) != new.reads.get(name):
            yield f"the stage {name}, which {stage} reads"
    if old.code != new.code:
        yield f"Ponder itself: {_code(old.code)} -> {_code(new.code)}"


def _is_input(text: str, keys: Mapping[str, str]) -> bool:
    """Whether a text names something on this disk; the folder we are in is no input."""
    if text in keys or not text or len(text) > 1000 or "\0" in text:
        return False
    try:
        path = Path(text).expanduser()
        return path.exists() and not Path.cwd().is_relative_to(path.resolve())
    except (OSError, RuntimeError):
        return False


def _texts(value: Any) -> Iterator[str]:
    """Every text in the settings that could be a path: it has a separator or a suffix."""
    if isinstance(value, str):
        if "/" in value or Path(value).suffix:
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _modules(use: str, settings: Json) -> Iterator[str]:
    """Source files of plug-ins that are not Ponder's own: its code version does not cover them."""
    for name in (use, *_texts(settings)):
        if "." not in name or not all(part.isidentifier() for part in name.split(".")):
            continue
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            continue
        if spec is not None and spec.origin and not name.startswith("ponder."):
            yield spec.origin


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _shown(values: Mapping[str, Any], key: str) -> str:
    text = repr(values[key]) if key in values else "absent"
    return text if len(text) <= 60 else text[:57] + "..."


def _code(code: Json) -> str:
    return f"{code['version']} ({code['digest'][:8]})"
