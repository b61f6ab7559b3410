"""Floor 3 plug-ins: where problems come from. A file with a `plugin` line is a task."""
