"""GRPO in one file: what Ponder's reinforcement learning does, without Ponder's abstractions.

Only torch and transformers. A small model answers sums, a function checks the answers, and right answers become more
likely than wrong ones to the same question. Run it with

    .venv/bin/python examples/grpo_in_one_file.py [MODEL_FOLDER]

Differences from DeepSeekMath (arXiv:2402.03300): no reference model, no division by the group's standard deviation
or by the answer's length (Dr. GRPO, arXiv:2503.20783), and one update per batch, so that the ratio to the old policy
is one and nothing is clipped.
"""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

STEPS, QUESTIONS, GROUP, NEW_TOKENS, LR = 30, 16, 8, 64, 1e-4
DEFAULT_MODEL = Path(__file__).resolve().parents[1] / "src" / "ponder" / "pocket" / "pocket-base"


def question(rng: random.Random) -> tuple[str, int]:
    """A two-step word sum and its answer."""
    name, thing = rng.choice(["Anna", "Ben", "Mia", "Sam"]), rng.choice(["apples", "coins", "books"])
    have, found, lost = rng.randint(5, 12), rng.randint(1, 9), rng.randint(1, 5)
    text = f"{name} has {have} {thing}. {name} finds {found} {thing}. {name} loses {lost} {thing}. "
    return text + f"How many {thing} does {name} have now?", have + found - lost


def reward(text: str, gold: int) -> float:
    """1 when the last number behind the thought is the answer."""
    numbers = re.findall(r"-?\d+", text.rpartition("</think>")[2])
    return float(bool(numbers) and int(numbers[-1]) == gold)


def token_logprobs(model: torch.nn.Module, tokens: Tensor, mask: Tensor) -> Tensor:
    """(B, T-1) log-probability of each token after the first, given those before it."""
    logits = model(tokens, attention_mask=mask).logits[:, :-1].float()
    return logits.log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]


def main() -> None:
    """Train, and print the share of right answers of every step."""
    folder = sys.argv[1] if len(sys.argv) > 1 else str(DEFAULT_MODEL)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    torch.manual_seed(0)
    for step in range(STEPS):
        rng = random.Random(step)
        asked = [question(rng) for _ in range(QUESTIONS)]
        chats = [[{"role": "user", "content": text}] for text, _ in asked for _ in range(GROUP)]
        prompts = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        with torch.no_grad():
            tokens = model.generate(**prompts, do_sample=True, top_k=0, max_new_tokens=NEW_TOKENS)
        start = prompts["input_ids"].shape[1]
        completions = tokens[:, start:]
        texts = tokenizer.batch_decode(completions)
        rewards = torch.tensor([reward(text, asked[i // GROUP][1]) for i, text in enumerate(texts)])
        advantages = (rewards.view(QUESTIONS, GROUP) - rewards.view(QUESTIONS, GROUP).mean(1, keepdim=True)).view(-1, 1)

        # Everything up to and with the first end-of-turn token was chosen by the policy; padding was not.
        ended = (completions == tokenizer.eos_token_id).cumsum(1)
        chosen = (ended - (completions == tokenizer.eos_token_id).long() == 0).float()
        mask = torch.cat([prompts["attention_mask"], chosen.long()], dim=1)
        logprobs = token_logprobs(model, tokens, mask)[:, start - 1 :]
        loss = -(advantages * logprobs * chosen).sum() / (len(texts) * NEW_TOKENS)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        print(f"step {step:3d}  right {rewards.mean():.3f}  tokens {chosen.sum(1).mean():.1f}", flush=True)


if __name__ == "__main__":
    main()
