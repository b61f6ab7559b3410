"""The shipped pocket models: tiny Qwen3-shaped weights with their cards."""
