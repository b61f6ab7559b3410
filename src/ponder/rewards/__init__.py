"""Floor 3 plug-ins: what else a response is paid for. A file with a `plugin` line is a reward."""
