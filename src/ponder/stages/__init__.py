"""Floor 6: what a user asks for. A stage is an immutable record that can be called."""
