"""Programs that do one side's share of a benchmark, each in the environment of the library it measures."""
