"""A decoding step of all cohorts in one native call; what it computes is what `Dense` over a `DecodeLayout` would."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_float, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder.engines._cohort import Cohort
from ponder.engines._native_cache import NativeCache
from ponder.models.dense import Dense, DenseLayer, is_dense
from ponder.models.native.build import Kernels, kernels
from ponder.models.native.packing import alternated, packed
from ponder.models.projection import Projection

MOST_QUERIES = 32
"""Query heads of one key head that the kernel has room for."""

STATIC_ROTATIONS = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary positions whose angles do not depend on how long a sequence is."""


class _Matrix(ctypes.Structure):
    _fields_ = [("weights", c_void_p), ("bias", c_void_p), ("inputs", c_int64), ("outputs", c_int64)]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _Matrix) for name in ("qkv", "output", "gate_up", "down")),
        *((name, c_void_p) for name in ("entry_norm", "middle_norm", "head_norm")),
        ("window", c_int64),
        ("scaling", c_float),
    ]


class _Cache(ctypes.Structure):
    _fields_ = [(name, c_void_p) for name in ("prefix_keys", "prefix_values", "suffix_keys", "suffix_values")]


class _Cohort(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in ("first", "rows", "groups", "prefix", "capacity", "length")),
        *((name, c_void_p) for name in ("order", "starts", "prompts")),
        ("caches", ctypes.POINTER(_Cache)),
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in ("layers", "width", "query_heads", "key_heads", "dim", "inner")),
        ("each", ctypes.POINTER(_Layer)),
        ("last_norm", c_void_p),
        ("eps", c_float),
    ]


class _Space(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("states", "cos", "sin", "heads", "entry", "attended", "inner", "scratch")),
        ("scratch_bytes", c_int64),
    ]


def native_step(model: PreTrainedModel, prompts: Any, rounded: bool) -> NativeStep | None:
    """The native step of a model, where the machine and the model's shape allow one.

    Args:
        model: With the weights that it has now.
        prompts: What computes its prompts; a `Dense` of the right dtype shares its packed weights.
        rounded: Matrix products in bfloat16.
    """
    if model.device.type != "cpu" or not is_dense(model):
        return None
    found = kernels(rounded)
    if found is None:
        return None
    dense = prompts if isinstance(prompts, Dense) and prompts.dtype == found.dtype else Dense(model, found.dtype)
    first = dense.layers[0]
    sizes = int(model.config.hidden_size), dense.head_dim, first.down.inputs
    if any(size % found.panel for size in sizes) or first.query_heads // first.key_heads > MOST_QUERIES:
        return None
    return NativeStep(dense, found)


class NativeStep:
    """Last hidden states of the newest tokens, whose keys and values it stores.

    Args:
        dense: The model's weights as they are now, in the dtype of the kernels.
        kernels: That run.
    """

    def __init__(self, dense: Dense, kernels: Kernels) -> None:
        """Pack all weights."""
        self.kernels, self._dense = kernels, dense
        self._dtype = kernels.dtype
        self._kept: list[Tensor] = []
        first = dense.layers[0]
        self._query_heads, self._key_heads = first.query_heads, first.key_heads
        self._width = first.entry_norm.shape[0]
        layers = (_Layer * len(dense.layers))(*(self._layer(layer) for layer in dense.layers))
        self._inner = int(layers[0].down.inputs)
        self._model = _Model(
            len(dense.layers), self._width, self._query_heads, self._key_heads, dense.head_dim, self._inner,
            layers, self._float(dense.core.norm.weight), first.eps,
        )  # fmt: skip
        self._threads = torch.get_num_threads()
        self._room: dict[str, Tensor] = {}
        self._table = torch.empty(0), torch.empty(0)

    def __call__(self, ids: Tensor, positions: Tensor, cohorts: Sequence[Cohort]) -> Tensor:
        """Hidden states (n, width) of tokens (n,) at positions (n,), cohort after cohort."""
        states = self._dense.embedded(ids).float()
        cos, sin = self._angles(positions)
        parts = (_Cohort * len(cohorts))()
        first = 0
        for place, cohort in enumerate(cohorts):
            parts[place] = self._cohort(cohort, first)
            first += cohort.rows
        space = self._space(len(ids), max(part.prefix + part.capacity for part in parts))
        space.states, space.cos, space.sin = (tensor.data_ptr() for tensor in (states, cos, sin))
        self.kernels.functions.step(
            ctypes.byref(self._model), parts, c_int64(len(cohorts)), c_int64(len(ids)), ctypes.byref(space),
            c_int64(self._threads),
        )  # fmt: skip
        return states.to(self._dense.core.embed_tokens.weight.dtype)

    def _angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Of positions (n,), float32, from a table where a position's angle depends on nothing else."""
        if self._dense.core.rotary_emb.rope_type not in STATIC_ROTATIONS:
            cos, sin = self._dense.angles(positions)
            return cos.float().contiguous(), sin.float().contiguous()
        last = int(positions.max())
        if last >= len(self._table[0]):
            cos, sin = self._dense.angles(torch.arange(2 * last + 1))
            self._table = cos.float(), sin.float()
        return self._table[0][positions], self._table[1][positions]

    def _layer(self, layer: DenseLayer) -> _Layer:
        return _Layer(
            self._matrix(layer.qkv),
            self._matrix(layer.output),
            self._gate_up(layer.gate_up),
            self._matrix(layer.down),
            self._float(layer.entry_norm),
            self._float(layer.middle_norm),
            None if layer.head_norm is None else self._float(layer.head_norm),
            layer.window or 0,
            layer.scaling,
        )

    def _matrix(self, projection: Projection) -> _Matrix:
        panels = projection.panels(self.kernels)
        bias = None if panels.bias is None else self._keep(panels.bias)
        return _Matrix(self._keep(panels.forward), bias, panels.inputs, panels.outputs)

    def _gate_up(self, projection: Projection) -> _Matrix:
        """Gates and ups in turn, so that one panel has both."""
        lanes = self.kernels.lanes
        gate, up = (part.detach().to(self._dtype) for part in projection.weights)
        weights = alternated(gate, up, lanes)
        mine = self._keep(packed(weights, self.kernels.panel, self.kernels.pair))
        biases = [part.detach() for part in projection.biases]
        bias = self._float(alternated(biases[0], biases[1], lanes)) if biases else None
        return _Matrix(mine, bias, projection.inputs, len(weights))

    def _float(self, tensor: Tensor) -> int:
        return self._keep(tensor.detach().float().contiguous())

    def _keep(self, tensor: Tensor) -> int:
        """The address of a tensor that lives as long as this."""
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _cohort(self, cohort: Cohort, first: int) -> Any:
        caches: list[NativeCache] = [cohort.layers[place] for place in range(len(self._dense.layers))]  # type: ignore[misc]
        each = (_Cache * len(caches))(
            *(
                _Cache(*(getattr(cache, name).data_ptr() for name, _ in _Cache._fields_))  # type: ignore[misc]
                for cache in caches
            )
        )
        prefix, capacity = caches[0].places
        grid = cohort.grid
        return _Cohort(
            first, cohort.rows, grid.groups, prefix, capacity, cohort.length,
            grid.order.data_ptr(), grid.starts.data_ptr(), cohort.prompts.data_ptr(), each,
        )  # fmt: skip

    def _space(self, rows: int, places: int) -> _Space:
        """Room for a step; kept, and grown when it has to be."""
        heads = (self._query_heads + 2 * self._key_heads) * self._dense.head_dim
        scratch = int(self.kernels.functions.scratch_bytes(c_int64(self._dense.head_dim), c_int64(places)))
        sizes = {
            "heads": (rows * heads, torch.float32),
            "entry": (rows * self._width, self._dtype),
            "attended": (rows * self._query_heads * self._dense.head_dim, self._dtype),
            "inner": (rows * self._inner, self._dtype),
            "scratch": (self._threads * scratch, torch.uint8),
        }
        space = _Space(scratch_bytes=scratch)
        for name, (count, dtype) in sizes.items():
            if name not in self._room or self._room[name].numel() < count:
                self._room[name] = torch.empty(count, dtype=dtype)
            setattr(space, name, self._room[name].data_ptr())
        return space
