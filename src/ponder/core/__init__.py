"""Floor 0: the nouns and contracts that every other floor speaks in. Never imports torch."""
