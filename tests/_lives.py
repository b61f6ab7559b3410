"""Lives of a piece of work: forked children that may be killed by SIGKILL, so that nothing can be tidied up.

The parent imports everything once; a child does the work, and dies where it was prepared to or when patience ends.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable


def live(work: Callable[[], None], prepare: Callable[[], None] | None = None, patience: float | None = None) -> bool:
    """Work in a child; True when it came to its end. With `patience` (seconds) it is killed after that time.

    Raises:
        SystemExit: If the child raised an error of its own.
    """
    child = os.fork()
    if child == 0:
        try:
            if prepare is not None:
                prepare()
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if patience is not None:
        time.sleep(patience)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a life ended in an error")
    return os.WIFEXITED(status)


def die() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)
