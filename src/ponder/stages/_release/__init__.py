"""The release gate: what is asked of an artefact before it leaves, and what is written about the answers."""
