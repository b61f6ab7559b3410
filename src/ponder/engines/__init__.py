"""Floor 3 plug-ins: what samples text. A file with a `plugin` line is an engine."""
