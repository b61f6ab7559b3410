"""The parts of the engine for ONNX Runtime GenAI: the library, its tokenizer, and drawing in batches."""
