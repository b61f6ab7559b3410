"""Sampling by vLLM's CPU backend: all sequences of the workload, once a turn."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

from vllm import LLM, SamplingParams, TokensPrompt

from benchmarks.workers.turns import case, take_turns


def main() -> None:
    """Load, then sample."""
    plan = case()
    llm = LLM(
        plan["model"],
        dtype=plan["dtype"],
        enforce_eager=plan["eager"],
        max_num_seqs=plan["samples"] * len(plan["ids"]),
        max_model_len=1024,
        enable_prefix_caching=True,
        disable_log_stats=True,
    )
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in plan["ids"]]
    params = SamplingParams(
        n=plan["samples"], temperature=1.0, ignore_eos=True, max_tokens=plan["new_tokens"], detokenize=False
    )

    def work() -> dict[str, Any]:
        outputs = llm.generate(prompts, params, use_tqdm=False)
        return {"count": sum(len(one.token_ids) for output in outputs for one in output.outputs)}

    take_turns(work, "vllm-cpu", "torch", "transformers")


if __name__ == "__main__":
    main()
