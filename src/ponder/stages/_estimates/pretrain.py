"""What training a new model would take: `pretrain`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ponder.core.chat import Chat
from ponder.core.types import Example
from ponder.models.catalogue import counted
from ponder.stages._estimates.account import Account
from ponder.stages._estimates.answering import model_for_probe
from ponder.stages._estimates.distill import TRAINING_MEMORY_SHARE, add_training, check_learning
from ponder.stages._estimates.drawing import text_tokens
from ponder.stages._estimates.sources import Source, source_of
from ponder.stages._estimates.training import train
from ponder.stages._outlook import Bounds, Leaves
from ponder.stages._stage import Context, Estimate

if TYPE_CHECKING:
    from ponder.stages.pretrain import Pretrain

DRAWING_SECONDS = 3e-4
"""Drawing and encoding a document."""
TOKENIZER_SECONDS = 6e-4
"""A problem's text, while a tokenizer is trained."""
TRIED_STEPS = 4


def estimate_pretrain(
    stage: Pretrain,
    context: Context,
    documents: Callable[[int], Sequence[tuple[str, str]]],
    encode: Callable[[Chat, str, str], Example],
    config: Any,
) -> Estimate:
    """Steps on documents that are drawn as they are needed.

    Args:
        stage: The settings.
        context: Of the stage.
        documents: (prompt, response) of a step.
        encode: A document as streams.
        config: Of the new model's shape; None when it keeps the one it begins with.
    """
    account = Account(rows=stage.steps * stage.documents_per_step)
    check_learning(account, stage)
    drawn: list[tuple[str, str]] = []
    with account.refusals.collecting():
        drawn = [each for step in range(TRIED_STEPS) for each in documents(step)]
    with account.refusals.collecting():
        source = _source(stage, context, config)
        loaded = model_for_probe(source, TRAINING_MEMORY_SHARE) if context.outlook.probe and drawn else None
        measured = None
        if loaded is not None:
            examples = [encode(loaded.chat, *each) for each in drawn]
            seconds = context.outlook.seconds
            measured = train(loaded, examples, stage.documents_per_step, stage.optimisation, seconds)
        lengths = [text_tokens(p, None) + text_tokens(r, None) for p, r in drawn] or [100]
        tokens = sum(lengths) / len(lengths) * stage.documents_per_step
        count = float(stage.steps)
        add_training(account, source, stage, Bounds(count, count, count), measured, tokens)
        account.leaves = Leaves(config=config) if config is not None else Leaves(model=stage.model or "")
    account.seconds.append(Bounds.around(DRAWING_SECONDS * account.rows, 0.6))
    if stage.model is None and stage.tokenizer is None:
        account.seconds.append(Bounds.around(TOKENIZER_SECONDS * stage.tokenizer_problems, 0.6))
    return account.estimate(context)


def _source(stage: Pretrain, context: Context, config: Any) -> Source:
    """What is trained: a new shape, or the model that it goes on from."""
    begun = None if stage.model is None else source_of(context, stage.model)
    if config is None:
        assert begun is not None
        return begun
    parameters = counted(config)
    made = Source("the new model", "local", None, config, parameters, 4 * parameters, own=False)
    return made if begun is None else replace(made, name=f"{begun.name}, grown")
