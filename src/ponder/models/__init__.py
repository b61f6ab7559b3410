"""Floor 2: loading and saving models, tokenizers, and Ponder's attention function."""
