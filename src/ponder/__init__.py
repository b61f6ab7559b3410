"""Ponder: turn a small language model into a reasoning model, and prove what it is worth."""

from ponder.core import offline

__version__ = "0.1.0"

offline.go_offline_if_told()
