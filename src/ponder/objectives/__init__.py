"""Floor 3 plug-ins: credit assignment. A file with a `plugin` line is an objective."""
