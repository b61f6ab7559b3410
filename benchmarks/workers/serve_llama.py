"""llama.cpp's own server, in this process through xllamacpp, asked over HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import xllamacpp

from benchmarks.workers.serve_clients import Clients
from benchmarks.workers.turns import case, take_turns


def main() -> None:
    """Serve, then answer all questions once a turn."""
    plan = case()
    params = xllamacpp.CommonParams()
    params.model.path = plan["gguf"][plan["form"]]
    params.n_parallel = plan["clients"]
    params.n_ctx = plan["clients"] * plan["context"]
    params.n_batch = params.n_ubatch = 2048
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = plan["threads"]
    params.model_alias = {"model"}
    params.verbosity = -1
    server = xllamacpp.Server(params)
    port = urlsplit(server.listening_address).port
    assert port is not None
    clients = Clients(port, plan["clients"], "model", plan["max_tokens"], plan["texts"])

    def work() -> dict[str, Any]:
        return clients.ask(plan["requests"])

    take_turns(work, "xllamacpp")


main()
