"""Floor 4: the one training loop."""
