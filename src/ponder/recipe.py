"""A recipe: one YAML file that names stages and their settings.

    name: pocket
    seed: 1
    stage:
      generate: {model: pocket-teacher, problems: 4000}
      distill: {model: pocket-base, traces: generate}

A stage's kind is its `use`, or its name. Class defaults < file < `--set stage.distill.epochs=3`. A recipe is
read and checked as far as possible without importing a stage, because stages import torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, ValidationError

from ponder._recipe_errors import Place, explain, nearest, refuse_coercion
from ponder._recipe_yaml import parse_yaml
from ponder.core.errors import ConfigurationError, ResourceError
from ponder.core.plugins import load_plugin
from ponder.core.types import Json, Record
from ponder.stages._stage import Stage

MAX_BYTES = 1_000_000
_SECRET = re.compile(r"(api_?key|secret|password|access_?token|hf_token)$", re.IGNORECASE)


class RecipeFile(Record):
    """The keys of a recipe file."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,79}$")
    """Names the run folder."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Everything random is derived from it."""
    stage: dict[str, dict[str, JsonValue] | None] = Field(min_length=1)
    """Stages in the order in which they run."""


@dataclass(frozen=True, slots=True)
class StageChoice:
    """One stage as the recipe names it: nothing is imported yet."""

    name: str
    use: str
    """Kind of stage: a module of `ponder.stages`, or the dotted name of anyone's."""
    fields: Json
    """Settings as written."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe whose outer form is checked."""

    name: str
    seed: int
    stages: tuple[StageChoice, ...]
    place: Place = field(default_factory=Place)
    """Where each key was written."""

    def earlier(self, name: str) -> tuple[str, ...]:
        """Names of the stages before one."""
        names = [choice.name for choice in self.stages]
        return tuple(names[: names.index(name)])


def load_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe file and apply `KEY=VALUE` overrides.

    Raises:
        ResourceError: If the file cannot be read.
        ConfigurationError: If it is not a recipe; names the file, the line and the key.
    """
    try:
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise ConfigurationError("this file is too large to be a recipe", where=str(path))
        data = path.read_bytes()
    except OSError as error:
        raise ResourceError(f"the recipe cannot be read: {error.strerror}", where=str(path)) from error
    content, lines = parse_yaml(data, str(path))
    return build_recipe(_beside(content, path.parent), overrides, Place(str(path), lines))


def _beside(value: Any, folder: Path) -> Any:
    """A recipe's content with the files that lie beside the recipe, and not here, named from here."""
    if isinstance(value, Mapping):
        return {key: _beside(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_beside(item, folder) for item in value]
    is_path = isinstance(value, str) and len(value) < 1024 and ("/" in value or "." in value) and "\0" not in value
    if is_path and not Path(value).exists() and (folder / value).exists():
        return str(folder / value)
    return value


def build_recipe(content: Mapping[str, Any], overrides: Iterable[str] = (), place: Place | None = None) -> Recipe:
    """A recipe from its content; `load_recipe` for what is not in a file.

    Raises:
        ConfigurationError: If it is not a recipe.
    """
    place = place or Place()
    merged: Json = json.loads(json.dumps(content))  # a copy of its own, aliases taken apart
    for override in overrides:
        _apply(merged, override, place)
    _refuse_secrets(merged, (), place)
    try:
        checked = RecipeFile.model_validate_json(json.dumps(merged), strict=True)
    except ValidationError as error:
        raise explain(error, RecipeFile, merged, place) from None
    stages = tuple(_choice(name, fields or {}, place) for name, fields in checked.stage.items())
    return Recipe(checked.name, checked.seed, stages, place)


def resolve_stage(choice: StageChoice, recipe: Recipe) -> Stage:
    """Import a stage and check its settings.

    Raises:
        ConfigurationError: If there is no such kind, a setting does not fit it, or it reads a stage that does
            not run before it.
    """
    path = ("stage", choice.name)
    try:
        kind = load_plugin("stages", choice.use)
    except ConfigurationError as error:
        raise ConfigurationError(error.what, where=recipe.place.of(path), fix=error.fix) from error
    if not (isinstance(kind, type) and issubclass(kind, Stage)):
        raise ConfigurationError(f"{choice.use!r} is not a stage", where=recipe.place.of(path))
    try:
        stage = kind.model_validate_json(json.dumps(choice.fields))
    except ValidationError as error:
        raise explain(error, kind, choice.fields, recipe.place, path) from None
    refuse_coercion(choice.fields, stage.model_dump(mode="json"), recipe.place, path)
    _check_references(stage, choice, recipe)
    return stage


def references(stage: Stage) -> list[tuple[str, str]]:
    """(field, name) of everything the stage's input fields name: earlier stages, models, files.

    A stage's snapshot (`STAGE@STEP`) is named as the stage.
    """
    found: list[tuple[str, str]] = []
    for name in stage.inputs:
        value = getattr(stage, name)
        if isinstance(value, str):
            found.append((name, _stage_of(value)))
        elif isinstance(value, Mapping):
            found.extend((name, _stage_of(item)) for item in value.values() if isinstance(item, str))
        elif isinstance(value, list | tuple):
            found.extend((name, _stage_of(item)) for item in value if isinstance(item, str))
    return found


def _stage_of(name: str) -> str:
    stage, _, step = name.partition("@")
    return stage if step.isdecimal() else name


def _choice(name: str, fields: Json, place: Place) -> StageChoice:
    path = ("stage", name)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}", name):
        raise ConfigurationError(
            f"{name!r} cannot name a stage",
            where=place.of(path),
            fix="use letters, digits, '_' and '-', at most 80",
        )
    use = fields.get("use", name)
    if not isinstance(use, str) or not use:
        raise ConfigurationError("`use` must be the name of a kind of stage", where=place.of((*path, "use")))
    return StageChoice(name, use, {key: value for key, value in fields.items() if key != "use"})


def _check_references(stage: Stage, choice: StageChoice, recipe: Recipe) -> None:
    names = [other.name for other in recipe.stages]
    earlier = recipe.earlier(choice.name)
    for key, target in references(stage):
        if key not in stage.model_fields_set:
            continue  # a default may name a stage that this recipe does not have
        where = recipe.place.of(("stage", choice.name, key))
        if target in names and target not in earlier and not Path(target).exists():
            which = "itself" if target == choice.name else f"the later stage {target!r}"
            raise ConfigurationError(
                f"stage {choice.name!r} reads {which}",
                where=where,
                fix="a stage can read only stages before it",
            )
        if target in earlier or re.search(r"[/:.]", target) or Path(target).exists() or _is_pocket(target):
            continue
        if near := nearest(target, earlier, cutoff=0.85):
            raise ConfigurationError(
                f"there is no stage {target!r} before {choice.name!r}",
                where=where,
                fix=f"did you mean {near!r}?",
            )


def _is_pocket(name: str) -> bool:
    return (Path(__file__).parent / "pocket" / name).is_dir()


def _apply(content: Json, override: str, place: Place) -> None:
    """Set one dotted key to a value written as YAML."""
    key, equals, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigurationError(f"--set {override!r} is not KEY=VALUE", fix="for example --set stage.distill.epochs=3")
    value, _ = parse_yaml(text.encode(), f"--set {key}", mapping=False)
    target: Any = content
    for depth, part in enumerate(path[:-1]):
        if part not in target and path[:depth] == ("stage",):
            near = nearest(part, target)
            hint = f"did you mean {near!r}? " if near else ""
            raise ConfigurationError(
                f"there is no stage {part!r} to set",
                where=f"--set {key}",
                fix=f"{hint}stages: {', '.join(target)}",
            )
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            raise ConfigurationError(f"{'.'.join(path[: depth + 1])} has no keys to set", where=f"--set {key}")
    target[path[-1]] = value
    place.overridden[path] = f"--set {key}"


def _refuse_secrets(value: Any, path: tuple[str, ...], place: Place) -> None:
    """Recipes are copied into run folders and shared: a key in one leaks."""
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str) and _SECRET.search(key) and item:
                raise ConfigurationError(
                    f"the key {key!r} looks like a secret, and recipes are stored with every run",
                    where=place.of((*path, key)),
                    fix="remove it, and give secrets through the environment",
                )
            _refuse_secrets(item, (*path, str(key)), place)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_secrets(item, (*path, str(index)), place)
