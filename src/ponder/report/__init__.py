"""Floor 6: one self-contained page from the numbers of a run."""
