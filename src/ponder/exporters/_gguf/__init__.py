"""The parts of a GGUF file: shape, tensors, vocabulary, chat template."""
