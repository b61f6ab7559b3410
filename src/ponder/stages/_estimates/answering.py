"""What it takes to have one model answer many problems: measured on a few of them, or computed from its shape."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from ponder.core.chat import Chat
from ponder.core.types import Problem
from ponder.measure.resources import memory_bytes
from ponder.models import attention
from ponder.models.load import LoadedModel, load_model, load_tokenizer, resolve_model
from ponder.stages._estimates.drawing import CHARACTERS, Drawn, Wanted, draw, solution_lengths
from ponder.stages._estimates.machine import GUESS_SHARE, sampling_memory
from ponder.stages._estimates.pace import batches_seconds, computed
from ponder.stages._estimates.served import price_of_served, served_refusals, tokens_money
from ponder.stages._estimates.sources import SOLUTIONS, Refusals, Source
from ponder.stages._outlook import Bounds
from ponder.stages._stage import Context

TIMING_SHARE = 0.15
"""How far a measured pace may be off: the machine is shared, and texts differ."""
STAND_IN_SHARE = 0.35
"""The same where the answers' lengths are those of other texts."""
LOAD_SECONDS = 0.2
READ_RATE = 1e9
"""Bytes a second that weights are loaded with."""
MEMORY_SHARE = 0.4
"""Of this machine's, that a model may take for a probe."""
RANDOM_PARAMETERS = 50_000_000
"""Largest model that is made with random weights to be timed."""
BARE_SHARE = 0.25
"""Of a worked solution, that a bare answer is shorter than."""
SERVED_RATES = (10_000.0, 1_000.0, 100.0)
"""Tokens a second of a service: at best, as expected, at worst. Nothing is known of it before it is asked."""
TOKEN_SECONDS, WEIGHTS_RATE, ARTEFACT_MEMORY = 2e-4, 2.5e10, 1.3
"""Guessed of an exported model: seconds of a token beside its weights, bytes a second of these, memory in its sizes."""
TYPICAL_TOKENS = 400
"""Guess of an answer's length, when nothing is known of it."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Of all answers together."""

    rows: int
    seconds: Bounds
    memory_bytes: int
    prompt_tokens: Bounds
    sampled_tokens: Bounds
    drawn: Drawn | None
    lengths: tuple[int, ...]
    note: str
    probed: bool = False
    served: bool = False
    money: Bounds | None = None
    currency: str = ""


def model_for_probe(source: Source, share: float = 1.0) -> LoadedModel | None:
    """A copy of a model to be tried out, or one of its shape with random weights; None when it is too large.

    Args:
        source: What is wanted.
        share: Of the usual memory; training needs several times the weights.
    """
    if source.config is None or 4 * source.parameters > MEMORY_SHARE * share * memory_bytes():
        return None
    if source.folder is not None:
        return load_model(str(source.folder))
    if source.parameters > RANDOM_PARAMETERS:
        return None
    folder = resolve_model("pocket-base")
    chat = Chat(load_tokenizer(folder))
    if len(chat.tokenizer) > source.config.get_text_config().vocab_size:
        return None
    attention.register()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(source.config, attn_implementation=attention.NAME, dtype=torch.float32)
    return LoadedModel(model.eval(), chat, folder)


def chat_of(source: Source) -> Chat | None:
    """Its chat format, where its folder is here."""
    return None if source.folder is None else Chat(load_tokenizer(source.folder))


def expected_lengths(source: Source, problems: list[Problem], most: int) -> tuple[int, ...]:
    """Lengths of answers of a model that is not made yet: those it was taught, or of the worked solutions.

    A model that was taught to reason writes as much as the problem at hand needs, so the worked solutions of these
    very problems say more; one that was taught bare answers writes far less.
    """
    taught = source.leaves.lengths if source.leaves is not None else ()
    worked = solution_lengths(problems, chat_of(source), most)
    if taught and (not worked or np.mean(taught) < BARE_SHARE * np.mean(worked)):
        return tuple(min(most, length) for length in taught)
    return worked or (min(most, TYPICAL_TOKENS),)


def answered(
    context: Context, source: Source, wanted: Wanted, rows: int, refusals: Refusals, seconds: float | None = None
) -> Answered:
    """What `rows` answers like the wanted ones take; refusals are added to.

    Args:
        context: Of the stage.
        source: Who answers.
        wanted: A sample of what is asked, and how.
        rows: All answers.
        refusals: Receives what the run would stop for.
        seconds: To be spent on trying; None: as the plan allows.
    """
    if source.kind == "served":
        return _asked_elsewhere(context, source, wanted, rows, refusals)
    if source.kind == "recorded":
        return _recorded(source, wanted, rows)
    if source.kind == "artefact":
        return _exported(source, wanted, rows)
    most = wanted.sampling.max_new_tokens
    if not source.own:
        wanted = replace(wanted, lengths=expected_lengths(source, list(wanted.problems), most))
    loaded = model_for_probe(source) if context.outlook.probe else None
    prompts = _prompt_lengths(wanted, loaded.chat if loaded is not None else chat_of(source))
    _check_room(source, max(prompts, default=0), most, refusals)
    if loaded is not None:
        drawn = draw(loaded, wanted, context.outlook.seconds if seconds is None else seconds)
        del loaded
        gc.collect()
        return _measured(source, wanted, rows, drawn)
    return _computed(source, wanted, rows, prompts)


def _measured(source: Source, wanted: Wanted, rows: int, drawn: Drawn) -> Answered:
    mean = float(np.mean(drawn.lengths))
    read = drawn.prompt_tokens / wanted.samples
    sampling = batches_seconds(drawn.pace, read, drawn.lengths, rows, wanted.together)
    share = STAND_IN_SHARE if wanted.lengths else TIMING_SHARE
    share = share + drawn.length_share if drawn.cut else float(np.hypot(share, drawn.length_share))
    loading = LOAD_SECONDS + source.disk_bytes / READ_RATE
    expected = sampling + drawn.judging * rows + loading
    note = f"{source.name}: {mean:.0f} tokens an answer" + (
        " expected" if wanted.lengths else f" of {len(drawn.lengths)} drawn{', cut short' if drawn.cut else ''}"
    )
    return Answered(
        rows,
        Bounds.around(expected, share),
        drawn.memory_bytes,
        Bounds.around(drawn.prompt_tokens * rows, 0.05),
        _tokens(mean * rows, drawn.length_share, rows * wanted.sampling.max_new_tokens),
        drawn,
        drawn.lengths,
        note + (f" ({source.note})" if source.note else ""),
        probed=True,
    )


def _computed(source: Source, wanted: Wanted, rows: int, prompts: list[int]) -> Answered:
    most = wanted.sampling.max_new_tokens
    lengths = wanted.lengths or solution_lengths(list(wanted.problems), chat_of(source), most)
    lengths = lengths or (min(most, TYPICAL_TOKENS),)
    mean, read = float(np.mean(lengths)), float(np.mean(prompts)) if prompts else 0.0
    pace = computed(source.config, source.parameters)
    sampling = batches_seconds(pace, read / wanted.samples, lengths, rows, wanted.together)
    memory = sampling_memory(source.config, source.parameters, wanted.together, read + mean)
    return Answered(
        rows,
        Bounds.around(sampling + LOAD_SECONDS + source.disk_bytes / READ_RATE, GUESS_SHARE),
        memory,
        Bounds.around(read * rows, 0.2),
        _tokens(mean * rows, GUESS_SHARE, rows * most),
        None,
        lengths,
        f"{source.name}: computed from its shape, {mean:.0f} tokens an answer guessed"
        + (f" ({source.note})" if source.note else ""),
    )


def _asked_elsewhere(context: Context, source: Source, wanted: Wanted, rows: int, refusals: Refusals) -> Answered:
    sheet, most = context.outlook.sheet, wanted.sampling.max_new_tokens
    prompts = _prompt_lengths(wanted, None)
    known = solution_lengths(list(wanted.problems), None, most)
    expected = min(most, 3 * float(np.mean(known)) if known else TYPICAL_TOKENS)  # reasoning is longer than a solution
    lengths = Bounds(min(expected, float(np.mean(known)) if known else expected / 3), expected, float(most))
    read, sampled = Bounds.around(float(np.mean(prompts or [0])) * rows, 0.3), lengths.times(rows)
    refusals += served_refusals(source.name, sheet, None)
    price = price_of_served(source.name, sheet)
    money = tokens_money(price, read, sampled)
    note = (
        f"{source.name.partition('?')[0]}: {expected:.0f} tokens an answer and {SERVED_RATES[1]:,.0f} a second guessed "
        f"({source.note})"
    )
    return Answered(
        rows,
        Bounds(sampled.low / SERVED_RATES[0], sampled.expected / SERVED_RATES[1], sampled.high / SERVED_RATES[2]),
        0,
        read,
        sampled,
        None,
        tuple(round(lengths.expected) for _ in wanted.problems) or (round(expected),),
        note,
        served=True,
        money=money,
        currency="" if price is None else price.currency,
    )


def _recorded(source: Source, wanted: Wanted, rows: int) -> Answered:
    """Worked solutions or recorded answers: nothing is sampled."""
    known = solution_lengths(list(wanted.problems), None, 10**9) if source.name == SOLUTIONS else ()
    nothing = Bounds(0.0, 0.0, 0.0)
    return Answered(rows, Bounds.around(2e-4 * rows, 0.8), 0, nothing, nothing, None, known, source.note)


def _exported(source: Source, wanted: Wanted, rows: int) -> Answered:
    """An exported model: its weights are read once a token, and that is guessed from its size."""
    most = wanted.sampling.max_new_tokens
    lengths = solution_lengths(list(wanted.problems), None, most) or (min(most, TYPICAL_TOKENS),)
    mean, read = float(np.mean(lengths)), float(np.mean(_prompt_lengths(wanted, None) or [0]))
    each = TOKEN_SECONDS + source.disk_bytes / WEIGHTS_RATE
    seconds = rows * mean * each + LOAD_SECONDS + source.disk_bytes / READ_RATE
    return Answered(
        rows,
        Bounds.around(seconds, GUESS_SHARE),
        int(ARTEFACT_MEMORY * source.disk_bytes),
        Bounds.around(read * rows, 0.3),
        _tokens(mean * rows, GUESS_SHARE, rows * most),
        None,
        lengths,
        f"{source.name}: {mean:.0f} tokens an answer guessed ({source.note})",
    )


def _prompt_lengths(wanted: Wanted, chat: Chat | None) -> list[int]:
    if chat is not None:
        return [len(chat.prompt(problem.messages)) for problem in wanted.problems]
    return [20 + sum(len(turn.content) for turn in problem.messages) // CHARACTERS for problem in wanted.problems]


def _check_room(source: Source, prompt: int, new: int, refusals: Refusals) -> None:
    if source.context is not None and prompt + new > source.context:
        left = source.context - prompt
        refusals.add(
            f"{prompt} prompt tokens and {new} new ones do not fit the {source.context} positions of {source.name}",
            f"lower max_new_tokens (to {left})" if left > 0 else "shorten the prompts",
        )


def _tokens(expected: float, share: float, most: float) -> Bounds:
    bounds = Bounds.around(expected, share)
    return Bounds(bounds.low, bounds.expected, min(bounds.high, max(most, bounds.expected)))
