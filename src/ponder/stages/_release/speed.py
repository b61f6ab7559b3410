"""How fast a model answers and what memory it takes, measured in a process of its own that is told its threads.

What the clock says on a busy machine is worth little; nothing is judged by it unless a bound asks for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ponder.core.errors import ResourceError
from ponder.core.types import Json
from ponder.models.artefacts import artefact_engine
from ponder.stages._release.measuring import BATCH, SINGLE

SECONDS = 300.0
"""After which a measurement is given up."""


def measured_speed(model: str, prompts: Sequence[str], threads: int) -> Json:
    """Figures of one model: load, time to first token, tokens per second single and batched, memory.

    Args:
        model: An artefact, or a model folder.
        prompts: User turns, of which the first are asked.
        threads: Of this engine's arithmetic.

    Raises:
        ResourceError: If the process fails or takes too long.
    """
    module = "measuring" if artefact_engine(Path(model)) is not None else "measuring_model"
    asked = json.dumps(list(prompts[: BATCH + SINGLE]))
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PONDER_THREADS": str(threads)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"ponder.stages._release.{module}", model, asked],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=True,
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired as error:
        raise ResourceError(f"the speed could not be measured within {SECONDS:g} s", where=model) from error
    except (subprocess.CalledProcessError, ValueError, IndexError) as error:
        said = getattr(error, "stderr", b"") or b""
        raise ResourceError(
            "the speed could not be measured", where=model, fix=said.decode(errors="replace").strip()[-500:]
        ) from error
