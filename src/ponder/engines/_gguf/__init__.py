"""llama.cpp in this process: its server, the tokenizer in the file, and one completion at a time."""
