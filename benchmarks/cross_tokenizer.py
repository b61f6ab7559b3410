"""What a teacher with another tokenizer can say: shares of tokens and mass, and how right its translated rows are.

`python -m benchmarks.cross_tokenizer` aligns worked solutions of the task `skills`. To look at a student's tokens no
student is needed: `pocket-teacher` (1,024 tokens) speaks to tokenizers of other sizes, trained here. What a row should
say is found by drawing: the teacher goes on from the same place many times, and the first token of what it writes, as
the student's tokenizer encodes it, is counted.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from ponder.core.chat import Chat
from ponder.core.types import Completion, Problem, Trace, Verdict
from ponder.engines._cross_teacher import CrossTeacher
from ponder.engines._teachers import LocalTeacher
from ponder.models.load import LoadedModel, load_model
from ponder.models.tokenizer import train_tokenizer
from ponder.stages._tasks import draw_problems, open_tasks
from ponder.stages.pretrain import document

AHEAD = 8
"""Tokens that the teacher writes on, of which the first token of the student is looked at."""


def solutions(split: str, limit: int) -> list[tuple[Problem, str]]:
    """Problems of all skills in turn with their worked solutions."""
    problems = draw_problems(open_tasks([{"use": "skills", "max_steps": 4}]), split, limit, 0)
    return [(problem, document(problem, worked=True)[1]) for problem in problems]


def tokenizer_chat(size: int, texts: list[tuple[Problem, str]]) -> Chat:
    """A byte-level tokenizer of so many ids."""
    plain = [f"user\n{problem.prompt}\nassistant\n" + re.sub(r"</?think>", "", text) for problem, text in texts]
    return Chat(train_tokenizer(plain, size))


def trace_of(chat: Chat, problem: Problem, text: str) -> Trace:
    """A worked solution as a student's completion."""
    completion = Completion(
        text=text, prompt_tokens=tuple(chat.prompt(problem.messages)), tokens=tuple(chat.response(text))
    )
    return Trace(problem=problem, completion=completion, verdict=Verdict.correct())


def coverage(teacher: CrossTeacher, traces: list[Trace], k: int) -> dict[str, Any]:
    """Asked for distributions of all traces."""
    for start in range(0, len(traces), 20):
        teacher.top(traces[start : start + 20], k)
    return teacher.coverage.numbers() | {"sentence": teacher.coverage.sentence()}


@torch.inference_mode()
def drawn(model: PreTrainedModel, chat: Chat, prefix: list[int], count: int, seed: int) -> list[list[int]]:
    """Continuations of a prefix at temperature 1, by transformers itself."""
    generator = torch.Generator().manual_seed(seed)
    read = model(torch.tensor([prefix]), use_cache=True)
    cache, logits = read.past_key_values, read.logits[:, -1].expand(count, -1)
    cache.batch_repeat_interleave(count)
    found: list[torch.Tensor] = []
    for _ in range(AHEAD):
        found.append(logits.softmax(-1).multinomial(1, generator=generator))
        logits = model(found[-1], past_key_values=cache).logits[:, -1]
    rows = torch.cat(found, dim=1).tolist()
    return [row[: row.index(chat.end_id)] if chat.end_id in row else row for row in rows]


def first_tokens(teacher: Chat, student: Chat, continuations: list[list[int]]) -> dict[int, float]:
    """How often each of the student's tokens comes first."""
    counts: dict[int, float] = {}
    for ids in continuations:
        text = teacher.decode(ids)
        first = student.response(text)[0] if text else student.end_id
        counts[first] = counts.get(first, 0.0) + 1.0 / len(continuations)
    return counts


def distance(row: dict[int, float], tail: float, counts: dict[int, float]) -> float:
    """Total variation between a row with its tail and what was counted, tokens out of the row being one."""
    outside = sum(mass for token, mass in counts.items() if token not in row)
    gaps = sum(abs(mass - counts.get(token, 0.0)) for token, mass in row.items())
    return (gaps + abs(tail - outside)) / 2


def rightness(loaded: LoadedModel, student: Chat, traces: list[Trace], places: int, count: int) -> dict[str, float]:
    """Mean distance of translated rows from what was drawn: as they are, and with the unmatched mass in the tail.

    Only of rows where the teacher hesitates (none of its tokens has 0.9). `by chance` is the distance of as many draws
    from each other: what a perfect row would be away from.
    """
    ours, bare = (CrossTeacher(LocalTeacher(loaded.model), loaded.chat, student) for _ in range(2))
    known = bare._translation
    bare._translation = replace(known, ids=np.where(known.exact, known.ids, -1).astype(np.int32))
    model = AutoModelForCausalLM.from_pretrained(loaded.path, dtype=torch.float32, local_files_only=True)
    found: dict[str, list[float]] = {"translated": [], "matched only": [], "by chance": []}
    hesitations = [(one, place) for one in traces[:40] for place in hesitating(ours, one)]
    for number in np.random.default_rng(0).permutation(len(hesitations))[:places]:
        one, group = hesitations[number]
        pairing = ours._pairings([one])[0]
        place = int((pairing.ours == group).argmax()) + len(one.completion.prompt_tokens or ())
        inside = pairing.trace.completion
        prefix = [*(inside.prompt_tokens or ()), *(inside.tokens or ())[: int((pairing.theirs == group).argmax())]]
        ids = drawn(model, loaded.chat, prefix, 2 * count, int(number))
        counts, again = (first_tokens(loaded.chat, student, half) for half in (ids[:count], ids[count:]))
        for name, teacher in (("translated", ours), ("matched only", bare)):
            (rows,) = teacher.top([one], 16)
            row = {
                int(i): float(np.exp(mass))
                for i, mass in zip(rows.ids[place], rows.logprobs[place], strict=True)
                if i >= 0
            }
            found[name].append(distance(row, float(np.exp(rows.tail[place])) if row else 1.0, counts))
        found["by chance"].append(distance(again, 0.0, counts))
    return {"rows": len(found["by chance"])} | {name: float(np.mean(values)) for name, values in found.items()}


def hesitating(teacher: CrossTeacher, one: Trace) -> list[int]:
    """Groups of a trace where none of the teacher's tokens has a probability of 0.9."""
    pairing = teacher._pairings([one])[0]
    (own,) = teacher._teacher.top([pairing.trace], 1)
    first = own.logprobs[pairing.prompt_length :, 0]
    return [g for g in range(pairing.theirs.max() + 1) if first[int((pairing.theirs == g).argmax())] < np.log(0.9)]


def main() -> None:
    """Print one line per pair of tokenizers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--solutions", type=int, default=200)
    parser.add_argument("--places", type=int, default=16, help="rows that are compared with draws")
    parser.add_argument("--draws", type=int, default=64)
    parser.add_argument("--sizes", type=int, nargs="+", default=[700, 2048])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    training, asked = solutions("train", 1200), solutions("test", options.solutions)
    loaded = load_model("pocket-teacher")
    report: dict[str, Any] = {"solutions": len(asked)}
    for size in options.sizes:
        student = tokenizer_chat(size, training)
        traces = [trace_of(student, problem, text) for problem, text in asked]
        teacher = CrossTeacher(LocalTeacher(loaded.model), loaded.chat, student)
        line: dict[str, Any] = {"rung": str(teacher.rung), "shared": teacher.shared}
        line |= coverage(teacher, traces, 32)
        line |= {"distance": rightness(loaded, student, traces, options.places, options.draws)}
        back = CrossTeacher(_Silent(), student, loaded.chat)
        back.logprobs([trace_of(loaded.chat, problem, text) for problem, text in asked])
        line["turned round"] = back.coverage.numbers() | {"shared": back.shared}
        report[f"student of {len(student.tokenizer)}"] = line
        print(json.dumps({size: line}, indent=1), flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


class _Silent:
    """A teacher without a model, where only the alignment is looked at."""

    def logprobs(self, traces: Any) -> list[Any]:
        """NaN everywhere."""
        lengths = [len(t.completion.prompt_tokens) + len(t.completion.tokens) for t in traces]
        return [np.full(length, np.nan, np.float32) for length in lengths]

    def top(self, traces: Any, k: int) -> list[Any]:
        """Not asked."""
        raise NotImplementedError


if __name__ == "__main__":
    main()
