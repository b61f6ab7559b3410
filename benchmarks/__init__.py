"""Ponder's speed beside its peers' and beside the machine's limits.

Every module is a command, `python -m benchmarks.NAME`, with `--json FILE` for machines. Ponder and its peers run in
processes and environments of their own and take turns; what is compared is the median of the pairs.
"""
