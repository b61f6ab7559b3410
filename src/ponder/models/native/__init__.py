"""Kernels in C for what torch does in too many small operations; built once on each machine, never needed.

They are compiled by the machine's own C compiler for its own processor when they are first wanted (about two seconds)
and kept in the user's cache. Without a compiler, or with `PONDER_NATIVE=0`, everything goes through torch, which
remains the reference that the kernels are tested against.
"""
