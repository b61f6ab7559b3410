"""Sampling by llama.cpp's server, in process through xllamacpp: all sequences of the workload, once a turn."""

from __future__ import annotations

import json
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import xllamacpp

from benchmarks.workers.gguf import write_gguf
from benchmarks.workers.turns import case, take_turns


def main() -> None:
    """Convert, load, then sample."""
    plan = case()
    folder = tempfile.mkdtemp()
    path = Path(folder) / "model.gguf"
    write_gguf(Path(plan["model"]), path)
    slots = plan["slots"]
    longest = max(map(len, plan["ids"])) + plan["new_tokens"]
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel = slots
    params.n_ctx = slots * (-(-longest // 256) * 256)
    params.n_batch = params.n_ubatch = 2048
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = plan["threads"]
    params.kv_unified = plan["unified"]
    params.verbosity = -1
    server = xllamacpp.Server(params)
    url = f"{server.listening_address}/completion"
    rows = [ids for ids in plan["ids"] for _ in range(plan["samples"])]

    def ask(ids: list[int]) -> int:
        body = {
            "prompt": ids, "n_predict": plan["new_tokens"], "ignore_eos": True, "temperature": 1.0, "top_k": 0,
            "top_p": 1.0, "min_p": 0.0, "samplers": ["temperature"], "cache_prompt": True,
        }  # fmt: skip
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as response:
            return int(json.load(response)["tokens_predicted"])

    with ThreadPoolExecutor(slots) as pool:

        def work() -> dict[str, Any]:
            return {"count": sum(pool.map(ask, rows))}

        take_turns(work, "xllamacpp")


main()
