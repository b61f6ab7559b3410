"""Ponder's server in a process of its own, asked by clients of this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.workers.serve_clients import Clients
from benchmarks.workers.turns import case, take_turns


def main() -> None:
    """Serve, then answer all questions once a turn."""
    plan = case()
    threads = {"OMP_NUM_THREADS": str(plan["threads"])}
    model = plan["gguf"][plan["form"]] if "form" in plan else plan["model"]
    command = [sys.executable, "-m", "ponder", "serve", model, "--port", "0", "--name", "model"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | threads) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline().rpartition(":")[2].partition("/")[0])
        clients = Clients(port, plan["clients"], "model", plan["max_tokens"], plan["texts"])

        def work() -> dict[str, Any]:
            return {**clients.ask(plan["requests"]), "server_bytes": peak(server.pid)}

        take_turns(work, "ponder", "torch")
        server.terminate()


def peak(pid: int) -> int:
    """Most memory that a process ever held; 0 where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


main()
