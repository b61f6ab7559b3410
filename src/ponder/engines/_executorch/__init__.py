"""The parts of the engine for ExecuTorch: the process that has it, what that process does, and the tokenizer."""
