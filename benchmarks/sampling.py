"""Sampling alone: Ponder's engine, transformers' `generate`, vLLM on CPU and llama.cpp's server.

256 sequences in groups of 8, EOS suppressed, temperature 1, on the same threads. llama.cpp has f16 weights and 64
slots, the others bfloat16; none of these settings is tuned yet.
"""

from __future__ import annotations

import random
import sys
from argparse import Namespace
from pathlib import Path

import torch

from benchmarks import shapes
from benchmarks.turns import Side, compare, options, run_cases
from ponder.core.chat import Chat
from ponder.core.types import Json, Message
from ponder.models.load import load_tokenizer
from ponder.stages._tasks import draw_problems, open_tasks

CASES: dict[str, Json] = {
    "prompt-300": {"model": "3m", "prompts": 32, "prompt_tokens": 300, "samples": 8, "new_tokens": 128},
    "prompt-40": {"model": "3m", "prompts": 32, "prompt_tokens": 40, "samples": 8, "new_tokens": 128},
}


def sides() -> list[Side]:
    """Every engine with its settings."""
    threads = torch.get_num_threads()
    return [
        Side("ponder", "ponder_sample", settings={"dtype": "bfloat16"}),
        Side("generate", "hf_sample", "hf", {"dtype": "bfloat16", "attention": "sdpa", "batch": 256}),
        Side("vllm-cpu", "vllm_sample", "vllm", {"dtype": "bfloat16", "eager": True}),
        Side("llama.cpp", "llama_sample", "llama", {"slots": 64, "threads": threads, "unified": False}),
    ]


def prompts(chat: Chat, count: int, tokens: int) -> list[str]:
    """Distinct texts whose rendered prompts are about `tokens` long, never longer."""
    words = " ".join(p.prompt for p in draw_problems(open_tasks(["skills"]), "train", 400, 0)).split()
    rng = random.Random(0)
    texts = []
    for _ in range(count):
        begin = rng.randrange(len(words) - tokens)
        size = tokens
        while len(chat.prompt((Message(role="user", content=" ".join(words[begin : begin + size])),))) > tokens:
            size -= 1
        texts.append(" ".join(words[begin : begin + size]))
    return texts


def measure(name: str, asked: Namespace, folder: Path) -> Json:
    """One workload."""
    case = CASES[name]
    model = shapes.make(case["model"], folder)
    chat = Chat(load_tokenizer(model))
    texts = prompts(chat, case["prompts"], case["prompt_tokens"])
    ids = [chat.prompt((Message(role="user", content=text),)) for text in texts]
    plan = {**case, "model": str(model), "texts": texts, "ids": ids}
    chosen = [side for side in sides() if side.name == "ponder" or asked.peers is None or side.name in asked.peers]
    return {"workload": case, **compare(chosen, plan, asked.pairs)}


def main() -> int:
    """Measure the chosen workloads."""
    parser = options(__doc__, CASES)
    parser.add_argument("--peers", nargs="*", help="only these; all by default")
    return run_cases("sampling", parser, CASES, measure, "tokens")


if __name__ == "__main__":
    sys.exit(main())
