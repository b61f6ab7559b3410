"""Floor 1: what a run leaves behind: folders, journals, locks, events."""
