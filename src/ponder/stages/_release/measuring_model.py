"""The same as `measuring`, of a trained model in Ponder's own engine."""

from __future__ import annotations

import os

import torch

from ponder.backends.local import open_sampler
from ponder.stages._release.measuring import run

if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    run(open_sampler)
