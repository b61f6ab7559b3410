"""Linear maps of the same input, as one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from ponder.models.native.build import Kernels
from ponder.models.native.linear import Panels


class Projection:
    """Some `nn.Linear` whose outputs stand side by side; joined, converted and packed when that is first needed.

    Args:
        parts: In the order of their outputs; all with a bias or none.
        dtype: Of the product.
    """

    def __init__(self, parts: Sequence[nn.Linear], dtype: torch.dtype) -> None:
        """Remember the parameters; gradients flow to them."""
        self.weights = [part.weight for part in parts]
        self.biases = [part.bias for part in parts if part.bias is not None]
        self.dtype = dtype
        self._panels: Panels | None = None

    @property
    def inputs(self) -> int:
        """Numbers that go in."""
        return self.weights[0].shape[1]

    @cached_property
    def weight(self) -> Tensor:
        """(out, in)."""
        return _joined(self.weights).to(self.dtype)

    @cached_property
    def bias(self) -> Tensor | None:
        """(out,)."""
        return _joined(self.biases).to(self.dtype) if self.biases else None

    def panels(self, kernels: Kernels) -> Panels:
        """For the native kernels."""
        if self._panels is None:
            self._panels = Panels(kernels, self.weights, self.biases)
        return self._panels


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts))
