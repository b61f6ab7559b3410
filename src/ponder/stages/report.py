"""Writes the run's report as one HTML file."""

from __future__ import annotations

from typing import ClassVar

from ponder.core.types import Json
from ponder.report.limits import NO_LIMITS, Limits
from ponder.report.page import write_report
from ponder.report.provenance import write_card
from ponder.stages._stage import Context, Estimate, Stage

PAGE_BYTES = 1_000_000
"""Of a page with the traces of some thousand answers."""
MEMORY_ALONE, MEMORY_AFTER = 300 * 1024**2, 750 * 1024**2
"""Peak memory of a report that is run by itself, and of one in a process that has trained and sampled before."""


class Report(Stage):
    """Shows what the run's evaluations found, how its training went, and the traces themselves."""

    inputs: ClassVar[tuple[str, ...]] = ("after",)

    after: tuple[str, ...] = ("evaluate",)
    """Stages whose results the page must show: when one of them changes, the page is written again."""

    limits: Limits = NO_LIMITS
    """What a model that is deployed may take at most; with any, the page says which one to deploy."""

    def __call__(self, context: Context) -> Json:
        """Write `report.html` for the whole run into this stage's folder."""
        run = context.folder.path.parent
        for model in sorted(run.glob("*/model")):  # the card of each, with what was measured since it was trained
            write_card(model.parent)
        page = write_report(run, context.folder.path / "report.html", limits=self.limits)
        return {"page": page.name}

    def estimate(self, context: Context) -> Estimate:
        """Reading stored traces: seconds."""
        memory = MEMORY_AFTER if context.outlook.leaves else MEMORY_ALONE
        return Estimate(0, 0, memory, 3.0, "reads stored traces", 1.0, 10.0, 0, 0, 0, PAGE_BYTES, PAGE_BYTES)


plugin: type[Stage] = Report
