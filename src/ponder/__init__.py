"""Ponder: turn a small language model into a reasoning model, and prove what it is worth."""

__version__ = "0.1.0"
