"""llama.cpp's server in this process, for the tests of exported models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

xllamacpp = pytest.importorskip("xllamacpp")


class LlamaServer:
    """A GGUF file behind llama.cpp's own HTTP server, on loopback; it lives as long as this object.

    Keys and values are kept in float32, so that what differs from the local engine is arithmetic, not storage.
    """

    def __init__(self, path: Path, name: str, parallel: int = 4, context: int = 1024) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel = context * parallel, parallel
        params.hostnames, params.port = ["127.0.0.1"], 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.model_alias = {name}
        params.verbosity = -1
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._server = xllamacpp.Server(params)
        self.url = self._server.listening_address

    def post(self, path: str, body: Any) -> Any:
        request = Request(self.url + path, json.dumps(body).encode(), {"content-type": "application/json"})
        with urlopen(request, timeout=120) as reply:
            return json.loads(reply.read())

    def tokens(self, text: str) -> list[int]:
        return self.post("/tokenize", {"content": text, "add_special": False, "parse_special": True})["tokens"]

    def prompt(self, messages: list[dict[str, str]]) -> str:
        return self.post("/apply-template", {"messages": messages})["prompt"]
