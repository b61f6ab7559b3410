"""Artefacts that other runtimes read: one file per form."""
