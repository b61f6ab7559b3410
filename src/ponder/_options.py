"""Options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path | None, typer.Option("--out", help="Run folder. [default: a folder under runs/]")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any key; repeatable.")]
New = Annotated[bool, typer.Option("--new", help="Start over in a fresh folder.")]
Model = Annotated[str, typer.Option("--model", help="pocket-base, pocket-teacher, a folder or a hub id.")]
Tasks = Annotated[list[str], typer.Option("--task", help="Task; repeatable. `ponder tasks` lists them.")]
Data = Annotated[Path | None, typer.Option("--data", help="File that the task reads.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Problems per task and split.")]
Problems = Annotated[int | None, typer.Option("--problems", min=1, help="Problems over all tasks together.")]
Samples = Annotated[int | None, typer.Option("--samples", min=1, help="Completions per problem.")]
Split = Annotated[str | None, typer.Option("--split", help="Split of the tasks.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Everything random is derived from it.")]
Prices = Annotated[
    Path | None, typer.Option("--prices", help="Price sheet of yours, CSV or YAML. [default: $PONDER_PRICES]")
]
