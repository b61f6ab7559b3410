"""Floor 3 plug-ins: how an answer is checked. A file with a `plugin` line is a verifier."""
