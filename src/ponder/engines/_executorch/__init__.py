"""The parts of the engine for ExecuTorch: the process that has it, and what that process does."""
