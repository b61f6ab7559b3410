"""What asking a teacher about traces would take: `pack`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ponder.stages._estimates.account import Account
from ponder.stages._estimates.answering import LOAD_SECONDS, READ_RATE
from ponder.stages._estimates.distill import TRACE_MEMORY, TRACE_SECONDS, find_traces
from ponder.stages._estimates.machine import GUESS_SHARE, sampling_memory, training_seconds
from ponder.stages._estimates.served import price_of_served, served_refusals, tokens_money
from ponder.stages._estimates.sources import source_of
from ponder.stages._outlook import Bounds, Leaves
from ponder.stages._stage import Context, Estimate

if TYPE_CHECKING:
    from ponder.stages.pack import Pack

BYTES_PER_ENTRY = 4.5
"""Of one token of one distribution in the file."""
READING_SHARE = 1 / 3
"""Reading costs a third of learning: forward without backward."""


def estimate_pack(stage: Pack, context: Context) -> Estimate:
    """Every trace is read once by its teacher."""
    account = Account()
    names = [stage.model] if isinstance(stage.model, str) else list(stage.model.values())
    with account.refusals.collecting():
        found = find_traces(context, stage.traces, stage.per_problem)
        account.rows, account.notes = round(found.traces.expected), [found.note]
        tokens = found.traces.times(found.length)
        account.notes.append(f"{tokens.expected:,.0f} tokens are scored")
        size = tokens.expected * stage.top_k * BYTES_PER_ENTRY
        account.left_bytes, account.disk_bytes = size, 2 * size
        account.seconds.append(Bounds.around(TRACE_SECONDS * found.rows + 0.5, 0.5))
        leaves = context.outlook.leaves.get(stage.traces, Leaves())
        account.leaves = replace(leaves, traces=found.traces, problems=leaves.problems or account.rows)
        for name in names:
            with account.refusals.collecting():
                _ask(context, account, name, tokens.times(1 / len(names)), TRACE_MEMORY * found.rows)
    if stage.student is None and any(":" in name for name in names):
        account.refusals.add(
            "a pack of a served teacher needs to know whose tokens it is made of",
            "name the student that will learn from it",
            "student",
        )
    return account.estimate(context)


def _ask(context: Context, account: Account, name: str, tokens: Bounds, held: int) -> None:
    source = source_of(context, name)
    if source.kind == "served":
        sheet = context.outlook.sheet
        account.refusals += served_refusals(name, sheet, None)
        price = price_of_served(name, sheet)
        nothing = Bounds(0.0, 0.0, 0.0)
        account.token_money.append((tokens_money(price, tokens, nothing), "" if price is None else price.currency))
        account.notes.append(source.note)
    elif source.config is not None:
        seconds = READING_SHARE * training_seconds(tokens.expected, source.parameters)
        account.seconds.append(Bounds.around(seconds + LOAD_SECONDS + source.disk_bytes / READ_RATE, GUESS_SHARE))
        account.needs(held + sampling_memory(source.config, source.parameters, 1, 4096))
        account.notes.append(f"{name}: computed from its shape" + (f" ({source.note})" if source.note else ""))
