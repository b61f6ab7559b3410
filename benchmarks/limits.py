"""How near training and decoding come to what the machine can do: its matrix products and its copies.

The limits are measured in the same run, in the dtype that is used: the best rate of square matrix products, and the
bandwidth of a copy much larger than the caches. Training is held against model FLOPs (6 for every parameter of the
layers and the head and token, 12 x layers x width x context for attention), decoding against the larger of the
time its FLOPs and the time its bytes (weights once a step, keys and values once a step) must take.

Source: model FLOPs as in Chowdhery et al. 2022 (arXiv:2204.02311), appendix B.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import shapes
from benchmarks.turns import options, publish
from ponder.backends.local import trainer_for
from ponder.core.chat import Chat
from ponder.core.types import Example, Json, Message, Sampling
from ponder.engines.local import LocalSampler
from ponder.learn.train import Optimisation
from ponder.models.load import load_model

CASES: dict[str, Json] = {
    "3m": {"rows": 64, "length": 256, "samples": 256, "new_tokens": 128},
    "25m": {"rows": 32, "length": 256, "samples": 128, "new_tokens": 64},
    "smollm2-135m": {"rows": 16, "length": 256, "samples": 64, "new_tokens": 32},
}
MATRIX_SIZES = (1024, 2048, 3072)
COPY_BYTES = 512 * 2**20


def product_rate(dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of some square products."""
    best = 0.0
    for size in MATRIX_SIZES:
        a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
        best = max(best, 2 * size**3 / _best_seconds(lambda a=a, b=b: torch.mm(a, b)))
    return best


def copy_bandwidth() -> float:
    """Bytes per second, read and written."""
    source = torch.zeros(COPY_BYTES // 4)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / _best_seconds(lambda: target.copy_(source))


def _best_seconds(work: Callable[[], Any], times: int = 7) -> float:
    work()
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def training(name: str, folder: Path, pairs: int, rate: float) -> Json:
    """Share of the products' rate that model FLOPs reach in an optimiser step."""
    case = CASES[name]
    loaded = load_model(str(shapes.make(name, folder)))
    trainer = trainer_for(loaded, Optimisation(lr=1e-6, autocast=True), 1000)
    rng = np.random.default_rng(0)
    ones, zeros = np.ones(case["length"], np.float32), np.zeros(case["length"], np.float32)
    rows = [
        Example(rng.integers(5, 1000, case["length"]).astype(np.int32), 1, ones, zeros, zeros, zeros)
        for _ in range(case["rows"])
    ]
    trainer.step(rows)
    seconds = []
    for _ in range(pairs):
        begin = time.perf_counter()
        trainer.step(rows)
        seconds.append(time.perf_counter() - begin)
    config = loaded.model.config
    tokens = case["rows"] * case["length"]
    width = config.num_attention_heads * (getattr(config, "head_dim", None) or config.hidden_size)
    flops = 6 * _product_parameters(loaded.model) + 6 * config.num_hidden_layers * width * case["length"]
    return {
        "tokens_per_second": tokens / median(seconds),
        "share": tokens * flops / median(seconds) / rate,
        "flops_per_token": flops,
    }


def decoding(name: str, folder: Path, pairs: int, rate: float, bandwidth: float) -> Json:
    """Share of the limit, the larger of bytes and FLOPs, that sampling reaches."""
    case = CASES[name]
    loaded = load_model(str(shapes.make(name, folder)), torch.bfloat16)
    loaded.chat.stop_ids = frozenset()
    sampler = LocalSampler(loaded.model, loaded.chat)
    prompts = [_prompt(loaded.chat, place) for place in range(case["samples"] // 8)]
    prompt_tokens = len(loaded.chat.prompt(prompts[0]))
    seconds = []
    for turn in range(pairs + 1):
        begin = time.perf_counter()
        sampler.generate(prompts, 8, Sampling(temperature=1.0, max_new_tokens=case["new_tokens"], seed=turn))
        seconds.append(time.perf_counter() - begin)
    config, parameters = loaded.model.config, _product_parameters(loaded.model)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cached = 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim * 2  # bytes of a token in bf16
    context = prompt_tokens / 8 + case["new_tokens"] / 2  # a prompt is read once for its 8 samples
    step_bytes = 2 * parameters + case["samples"] * context * cached
    attended = prompt_tokens + case["new_tokens"] / 2
    step_flops = case["samples"] * (
        2 * parameters + 4 * config.num_hidden_layers * config.num_attention_heads * head_dim * attended
    )
    least = max(step_bytes / bandwidth, step_flops / rate) * case["new_tokens"]
    return {
        "tokens_per_second": case["samples"] * case["new_tokens"] / median(seconds[1:]),
        "share": least / median(seconds[1:]),
        "bound": "bytes" if step_bytes / bandwidth > step_flops / rate else "FLOPs",
    }


def _prompt(chat: Chat, place: int) -> tuple[Message, ...]:
    return (Message(role="user", content=f"Problem {place}. " + "What is 3 and 4? " * 8),)


def _product_parameters(model: Any) -> int:
    """Parameters that take part in matrix products: the layers' and the head's, not the embedding's look-up."""
    head = model.get_output_embeddings().weight
    layers = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name and p is not head]
    return sum(p.numel() for p in layers) + head.numel()


def main() -> None:
    """Measure limits and shares."""
    asked = options(__doc__, CASES).parse_args()
    rate, plain, bandwidth = product_rate(torch.bfloat16), product_rate(torch.float32), copy_bandwidth()
    results: Json = {"limits": {"bf16_flops": rate, "fp32_flops": plain, "copy_bytes_per_second": bandwidth}}
    print(f"limits: {rate / 1e9:,.0f} GFLOP/s bf16, {plain / 1e9:,.0f} fp32, {bandwidth / 1e9:,.1f} GB/s copied")
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.case or CASES:
            trained = training(name, Path(folder), asked.pairs, rate)
            decoded = decoding(name, Path(folder), asked.pairs, rate, bandwidth)
            results[name] = {"training": trained, "decoding": decoded}
            print(
                f"{name}: training {trained['tokens_per_second']:,.0f} tokens/s, {trained['share']:.0%} of the limit; "
                f"decoding {decoded['tokens_per_second']:,.0f} tokens/s, {decoded['share']:.0%} ({decoded['bound']})",
                flush=True,
            )
    publish("limits", results, asked.json)


if __name__ == "__main__":
    sys.exit(main())
