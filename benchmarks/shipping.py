"""What transformers needs for the questions of the release gate: `python -m benchmarks.shipping MODEL`, one thread.

Prints the figures that `release.json` has for every engine; docs/results/releases/NAME.transformers.json holds them,
and puts them into the table of docs/shipping.md.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM

from ponder.core.chat import Chat
from ponder.measure.resources import peak_memory_bytes
from ponder.models.load import load_tokenizer, resolve_model
from ponder.stages._release.measuring import BATCH, SINGLE, TOKENS
from ponder.stages._tasks import draw_problems, open_tasks


def main(name: str) -> dict[str, float]:
    """Tokens per second single and batched, and seconds to the first token, greedy."""
    torch.set_num_threads(1)
    folder = resolve_model(name)
    chat = Chat(load_tokenizer(folder))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    problems = draw_problems(open_tasks(["skills"]), "test", SINGLE + BATCH, 0)
    prompts = [chat.prompt(problem.messages) for problem in problems]
    ends = sorted(chat.stop_ids)

    def answer(asked: list[list[int]], tokens: int) -> tuple[float, int]:
        width = max(map(len, asked))
        ids = torch.tensor([[ends[0]] * (width - len(one)) + one for one in asked])
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in asked])
        began = time.perf_counter()
        with torch.inference_mode():
            found = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, eos_token_id=ends,
                pad_token_id=ends[0],
            )[:, width:]  # fmt: skip
        seconds = time.perf_counter() - began
        ended = [row.index(next((t for t in row if t in ends), row[-1])) + 1 for row in found.tolist()]
        return seconds, sum(ended)

    answer(prompts[:1], 2)
    first = sorted(answer([one], 1)[0] for one in prompts[:SINGLE])
    alone = [answer([one], TOKENS) for one in prompts[:SINGLE]]
    together = answer(prompts[-BATCH:], TOKENS)
    return {
        "first_token_seconds": first[len(first) // 2],
        "tokens_per_second": sum(count for _, count in alone) / sum(seconds for seconds, _ in alone),
        "tokens_per_second_batched": together[1] / together[0],
        "memory_bytes": peak_memory_bytes(),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
