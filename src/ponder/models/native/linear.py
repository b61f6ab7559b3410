"""Linear maps of many tokens by the native kernels, forward and backward; see `products.c`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ponder.models.native.build import Kernels
from ponder.models.native.calling import call


class Panels:
    """Weights (out, in) of the same input, joined along their outputs, as the kernels read them.

    Args:
        kernels: Which read them.
        weights: One or more, with whole panels of outputs and inputs.
        biases: As many, or none.
    """

    def __init__(self, kernels: Kernels, weights: Sequence[Tensor], biases: Sequence[Tensor] = ()) -> None:
        """Remember them; they are packed when they are first used."""
        self.kernels, self.weights, self.biases = kernels, list(weights), list(biases)
        self.dtype = kernels.dtype
        self.outputs, self.inputs = sum(len(weight) for weight in weights), weights[0].shape[1]

    @cached_property
    def bias(self) -> Tensor | None:
        """(out,), float32."""
        return torch.cat([bias.detach().float() for bias in self.biases]) if self.biases else None

    @cached_property
    def forward(self) -> Tensor:
        """Packed over outputs."""
        room = torch.empty(self.outputs * self.inputs, dtype=self.dtype)
        for begin, weight in self._parts():
            place = room[begin * self.inputs : (begin + len(weight)) * self.inputs]
            call(self.kernels, "pack_outputs", weight, len(weight), self.inputs, place, torch.get_num_threads())
        return room

    @cached_property
    def backward(self) -> Tensor:
        """Packed over inputs."""
        room = torch.empty(self.outputs * self.inputs, dtype=self.dtype)
        for begin, weight in self._parts():
            call(self.kernels, "pack_inputs", weight, len(weight), self.inputs, begin, self.outputs, room,
                 torch.get_num_threads())  # fmt: skip
        return room

    def _parts(self) -> list[tuple[int, Tensor]]:
        """First output and weights of each, in the kernels' elements."""
        begins = [sum(map(len, self.weights[:i])) for i in range(len(self.weights))]
        parts = [weight.detach().to(self.dtype).contiguous() for weight in self.weights]
        return list(zip(begins, parts, strict=True))

    def map(self, rows: Tensor, dtype: torch.dtype, *, back: bool = False) -> Tensor:
        """Rows (T, in) times the weights, (T, out) in float32 or in elements; `back` takes (T, out) to (T, in)."""
        panels, bias = (self.backward, None) if back else (self.forward, self.bias)
        inputs, outputs = (self.outputs, self.inputs) if back else (self.inputs, self.outputs)
        result = torch.empty(len(rows), outputs, dtype=dtype)
        exact = dtype == torch.float32
        call(self.kernels, "linear", rows.to(self.dtype).contiguous(), len(rows), panels, bias, inputs, outputs,
             result if exact else None, None if exact else result, torch.get_num_threads())  # fmt: skip
        return result


def linear(panels: Panels, rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows (T, in) to (T, out) in `dtype`, float32 or the kernels' elements; gradients flow to rows and weights."""
    return _Linear.apply(panels, dtype, rows, *panels.weights, *panels.biases)  # type: ignore[no-any-return]


def add_outer(kernels: Kernels, grad: Tensor, rows: Tensor, result: Tensor) -> None:
    """Add grad (T, out)^T times rows (T, in) to a result (out, in), float32; grad may be some columns of more."""
    tokens, inputs = rows.shape
    assert grad.stride(1) == 1, "a kernel reads columns that are neighbours"
    places = tokens + -tokens % kernels.panel
    grad_panels, panels = rows.new_empty(places * grad.shape[1]), rows.new_empty(places * inputs)
    first = grad.as_strided((1,), (1,))  # says where the columns begin
    call(kernels, "outer", first, grad.stride(0), rows, tokens, grad.shape[1], inputs, result, grad_panels, panels,
         torch.get_num_threads())  # fmt: skip


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, panels: Panels, dtype: torch.dtype, rows: Tensor, *parameters: Tensor) -> Tensor:  # type: ignore[override]
        ctx.panels = panels
        ctx.save_for_backward(rows)
        return panels.map(rows, dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        panels: Panels = ctx.panels
        (rows,) = ctx.saved_tensors
        grad = grad.to(panels.dtype).contiguous()
        down = panels.map(grad, panels.dtype, back=True).to(rows.dtype) if ctx.needs_input_grad[2] else None
        exact = rows.to(panels.dtype).contiguous()
        grads: list[Tensor | None] = []
        begin = 0
        for place, weight in enumerate(panels.weights):
            mine = grad[:, begin : begin + len(weight)]
            begin += len(weight)
            grads.append(_outer(panels.kernels, mine, exact, weight) if ctx.needs_input_grad[3 + place] else None)
        if panels.biases:
            sums = grad.float().sum(0).split([len(bias) for bias in panels.biases])
            grads += [part.to(bias.dtype) for part, bias in zip(sums, panels.biases, strict=True)]
        return None, None, down, *grads


def _outer(kernels: Kernels, grad: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    result = torch.zeros(weight.shape)
    add_outer(kernels, grad, rows, result)
    return result.to(weight.dtype)
