"""Runs a recipe in a folder: what is done and unchanged is skipped, what was begun is resumed.

A stage's key is the hash of its settings, its seed, the keys of the stages it reads, the contents of the
local files it names and Ponder's code. Stages are imported only when one of them has to run, so that a
finished run is recognised in a moment.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Literal

import yaml

from ponder._identity import Identity, differences, identity_of, key_without_import
from ponder.core.errors import ConfigurationError, PonderError, ResourceError
from ponder.core.types import Json
from ponder.measure.costs.energy import machine_meter
from ponder.measure.costs.prices import PriceSheet, price_sheet
from ponder.measure.resources import reset_peak_memory
from ponder.recipe import Recipe, StageChoice, resolve_stage
from ponder.runs.files import disk_errors, full_disk, make_folder, write_atomic
from ponder.runs.interrupt import listening, raise_if_stopped
from ponder.runs.ledger import Ledger
from ponder.runs.log import Log, duration
from ponder.runs.manifest import environment
from ponder.runs.plan import PlanEntry, read_plan, recalled, write_plan
from ponder.runs.store import Run, StageFolder
from ponder.stages._outlook import PROBE_SECONDS, Leaves, Outlook, Refusal
from ponder.stages._stage import Context, Estimate, Stage

IDENTITY = "stage.json"
MANIFEST = "manifest.json"
PURCHASES = "purchases"
"""Folder of a stage that keeps what a served model answered, each answer under everything that decided it."""
State = Literal["done", "begun", "new"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A stage that is ready to be run or skipped."""

    choice: StageChoice
    state: State
    key: str
    stage: Stage | None = None
    """None when it is done: then nobody needed to import it."""
    identity: Identity | None = None
    changes: tuple[str, ...] = ()
    """How it differs from what the folder holds."""
    must_refuse: bool = False
    """The changes would throw finished work, or work on other data, away."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One line of `ponder plan`."""

    name: str
    use: str
    state: State
    estimate: Estimate | None
    """None when it is done."""
    key: str = ""


def run_recipe(recipe: Recipe, out: Path, log: Log, planned: Sequence[Planned] = ()) -> dict[str, Json]:
    """Run every stage that is not done, in order.

    Args:
        recipe: What to run.
        out: The run folder.
        log: Shows progress.
        planned: A plan that was made just now; without one, the last that was made of the same stages is kept
            beside the run, or one is computed from shapes.

    Returns:
        The summary of every stage by name.

    Raises:
        ConfigurationError: If a stage cannot be run as written, or `out` holds other finished work.
        ResourceError: If the folder is in use by another process, or the disk is full.
        Interrupted: If the user asked to stop; the same call resumes.
    """
    _refuse_foreign_folder(out)
    price_sheet()  # a mistake in it is found before hours of work
    if not out.exists():
        for choice in recipe.stages:  # a mistake in the last stage is found before anything is created
            resolve_stage(choice, recipe)
    with listening(), Run(out) as run:
        prepared = prepare(recipe, out)
        _refuse_changes(prepared, out)
        if any(item.state != "done" for item in prepared):
            _describe(recipe, prepared, run)
            log.journal = run.events()
            _keep_plan(recipe, prepared, run, log, planned)
        for item in prepared:
            raise_if_stopped()
            if item.state == "done":
                log.note(f"{item.choice.name}: done before, unchanged")
            else:
                _run_stage(recipe, item, run, log)
        return {item.choice.name: run.stage(item.choice.name).summary() for item in prepared}


def prepare(recipe: Recipe, out: Path) -> list[Prepared]:
    """Find out, for every stage, whether it is done; check the settings of all that are not."""
    keys: dict[str, str] = {}
    prepared: list[Prepared] = []
    for choice in recipe.stages:
        item = _prepare(recipe, choice, StageFolder(out / choice.name), keys)
        keys[choice.name] = item.key
        prepared.append(item)
    return prepared


def plan_recipe(
    recipe: Recipe,
    out: Path,
    log: Log,
    *,
    probe: bool = False,
    seconds: float = PROBE_SECONDS,
    sheet: PriceSheet | None = None,
) -> list[Planned]:
    """What `run_recipe` would do, at what cost, and for what it would stop. Writes nothing.

    Args:
        recipe: What would be run.
        out: The run folder.
        log: Told which stage is looked at.
        probe: Try stages out.
        seconds: For about so long each.
        sheet: Prices; None: as `price_sheet` finds them.
    """
    outlook = Outlook(probe=probe, seconds=seconds, sheet=sheet or price_sheet())
    return _planned(recipe, prepare(recipe, out), out, log, outlook)


def _planned(recipe: Recipe, prepared: Sequence[Prepared], out: Path, log: Log, outlook: Outlook) -> list[Planned]:
    """One stage after the other: what the earlier would leave is what the later would find."""
    leaves: dict[str, Leaves] = {}
    found: list[Planned] = []
    for item in prepared:
        name, estimate = item.choice.name, None
        if item.stage is not None:
            log.note(f"{name}: {'tried out' if outlook.probe else 'computed'}")
            context = _context(recipe, item.stage, StageFolder(out / name), log)
            try:
                estimate = item.stage.estimate(replace(context, outlook=replace(outlook, leaves=dict(leaves))))
            except PonderError as error:
                estimate = Estimate(0, 0, 0, 0.0, refusals=(Refusal.of(error),))
            if item.state != "done":
                leaves[name] = estimate.leaves
        found.append(Planned(name, item.choice.use, item.state, estimate, item.key))
    return found


def _keep_plan(recipe: Recipe, prepared: Sequence[Prepared], run: Run, log: Log, planned: Sequence[Planned]) -> None:
    """Write down what is expected before it happens; what was written for a stage as it is now stays."""
    kept = {entry.stage: entry for entry in read_plan(run.path)}
    waiting = [item for item in prepared if item.state != "done"]
    new = [item for item in waiting if kept.get(item.choice.name) is None or kept[item.choice.name].key != item.key]
    if not new:
        return
    known = {item.name: plan_entry(item) for item in planned if item.estimate is not None}
    known |= {
        item.choice.name: entry
        for item in new
        if item.choice.name not in known and (entry := recalled(item.key)) is not None
    }
    if any(item.choice.name not in known for item in new):
        blind = _planned(recipe, prepared, run.path, Log.silent(), Outlook(sheet=price_sheet()))
        known = {each.name: plan_entry(each) for each in blind if each.estimate is not None} | known
    kept |= {item.choice.name: known[item.choice.name] for item in new}
    order = [item.choice.name for item in prepared]
    write_plan(run.path, [kept[name] for name in order if name in kept])


def plan_entry(item: Planned) -> PlanEntry:
    """A planned stage as it is written down."""
    cost = item.estimate
    assert cost is not None
    amount = None if cost.money is None else cost.money.expected
    return PlanEntry(
        stage=item.name,
        key=item.key,
        probed=cost.probed,
        seconds=cost.seconds,
        low_seconds=cost.low_seconds,
        high_seconds=cost.high_seconds,
        peak_memory_bytes=cost.memory_bytes,
        tokens={
            name: count
            for name, count in (
                ("prompt", cost.prompt_tokens),
                ("sampled", cost.sampled_tokens),
                ("trained", cost.trained_tokens),
            )
            if count is not None
        },
        disk_bytes=cost.left_bytes,
        joules=cost.joules,
        money=amount,
        currency=cost.currency or None,
        note=cost.note,
    )


def fresh_folder(path: Path) -> Path:
    """`path` when nothing is there, or else the first free one of `path-2`, `path-3`, ..."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return next(candidate for candidate in chain((path,), numbered) if not candidate.exists())


def _prepare(recipe: Recipe, choice: StageChoice, folder: StageFolder, keys: dict[str, str]) -> Prepared:
    stored = _stored_identity(folder)
    done = folder.is_done()
    key = key_without_import(stored, choice, recipe, keys) if stored is not None and done else None
    if key is not None:
        return Prepared(choice, "done", key)
    stage = resolve_stage(choice, recipe)
    identity = identity_of(stage, choice, recipe, keys, stored)
    if stored is None:
        return Prepared(choice, "new", identity.key, stage, identity)
    if stored.key == identity.key:
        return Prepared(choice, "done" if done else "begun", identity.key, stage, identity)
    changes = tuple(differences(stored, identity, choice.name))
    data_changed = any(
        stored.files[path].digest != mark.digest for path, mark in identity.files.items() if path in stored.files
    )
    return Prepared(choice, "new", identity.key, stage, identity, changes, must_refuse=done or data_changed)


def _stored_identity(folder: StageFolder) -> Identity | None:
    """What the folder's work was made from; None when there is none, or it is damaged."""
    try:
        content = folder.read_json(IDENTITY)
        return None if content is None else Identity.model_validate(content)
    except (ResourceError, ValueError):
        return None


def _refuse_changes(prepared: Sequence[Prepared], out: Path) -> None:
    """Finished work is never redone silently, and data that changed under half-done work is pointed out."""
    changes = [change for item in prepared if item.must_refuse for change in item.changes]
    if changes:
        shown = "\n".join(f"    {change}" for change in dict.fromkeys(changes))
        raise ConfigurationError(
            f"this run was made from something else; what changed:\n{shown}",
            where=str(out),
            fix="add --new to start over in a fresh folder, or name one with --out; or undo the change",
        )


def _refuse_foreign_folder(out: Path) -> None:
    """Never mix a run into a folder that holds other things."""
    with disk_errors(out):
        if out.is_dir() and not (out / MANIFEST).exists():
            others = sorted(entry.name for entry in out.iterdir() if not entry.name.startswith("."))
            if others:
                raise ConfigurationError(
                    f"this folder is not a run, and it is not empty: it holds {', '.join(others[:3])}",
                    where=str(out),
                    fix="choose another folder with --out",
                )


def _describe(recipe: Recipe, prepared: Sequence[Prepared], run: Run) -> None:
    """Write the resolved recipe and the manifest."""
    stages = {item.choice.name: {"use": item.choice.use, **_settings(item, run)} for item in prepared}
    content = {"name": recipe.name, "seed": recipe.seed, "stage": stages}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    manifest = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        **environment(),
        "keys": {item.choice.name: item.key for item in prepared},
    }
    write_atomic(run.path / MANIFEST, json.dumps(manifest, indent=2).encode() + b"\n")
    write_atomic(run.path / "recipe.yaml", text.encode())


def _settings(item: Prepared, run: Run) -> Json:
    if item.identity is not None:
        return item.identity.settings
    stored = _stored_identity(run.stage(item.choice.name))
    return stored.settings if stored is not None else item.choice.fields


def _run_stage(recipe: Recipe, item: Prepared, run: Run, log: Log) -> None:
    """Run one stage to its end and mark it as done."""
    assert item.stage is not None and item.identity is not None
    name = item.choice.name
    folder = run.stage(name)
    if item.changes:
        log.note(f"{name}: begun under other settings, so it starts over")
        _start_over(folder.path)
    make_folder(folder.path)
    folder.write_json(IDENTITY, item.identity.model_dump(mode="json"))
    log.note(f"{name}: {'resumed' if item.state == 'begun' and not item.changes else 'started'}")
    began = time.monotonic()
    try:
        with _ledger(folder, log):
            summary = item.stage(_context(recipe, item.stage, folder, log))
    except Exception as error:
        if (full := full_disk(error, folder.path)) is not None:
            raise full from error  # no event: it could not be written either
        log.event("stopped", stage=name, reason=type(error).__name__)
        raise
    folder.finish(summary)
    seconds = time.monotonic() - began
    log.event("done", stage=name, seconds=round(seconds, 3))
    log.note(f"{name}: done in {duration(seconds)}")


def _start_over(folder: Path) -> None:
    """Remove what was begun; what was bought stays, because nothing is bought twice."""
    for entry in folder.iterdir():
        if entry.name == PURCHASES:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _ledger(folder: StageFolder, log: Log) -> Ledger:
    """The account of this attempt; the machine rests for a moment first, where its idle power can be measured."""
    meter = machine_meter()
    meter.watch_idle()
    reset_peak_memory()
    mark = meter.mark()
    return Ledger(folder.path, lambda: meter.since(mark), log.warn)


def _context(recipe: Recipe, stage: Stage, folder: StageFolder, log: Log) -> Context:
    earlier = recipe.earlier(folder.path.name)

    def stage_path(name: str) -> Path | None:
        return folder.path.parent / name if name in earlier else None

    def stages() -> list[Stage]:
        return [resolve_stage(choice, recipe) for choice in recipe.stages]

    seed = recipe.seed if stage.seed is None else stage.seed
    return Context(folder=folder, seed=seed, log=log, stage_path=stage_path, stages=stages)
