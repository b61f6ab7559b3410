"""Traces outside of the stage that made them: files of them, their selection, and the forms of other tools."""
