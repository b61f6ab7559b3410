"""Calls a kernel with tensors, numbers and nothing."""

from __future__ import annotations

from ctypes import c_float, c_int64, c_void_p
from typing import Any

from torch import Tensor

from ponder.models.native.build import Kernels


def call(kernels: Kernels, name: str, *arguments: Tensor | float | None) -> None:
    """Run a kernel: tensors go as the address of their first number, ints as int64, floats as float32.

    Args:
        kernels: Whose.
        name: Of the function in C.
        *arguments: In the order of its parameters; tensors lie on the CPU, contiguous, and outlive the call.
    """
    getattr(kernels.functions, name)(*map(_converted, arguments))


def _converted(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        if not argument.is_contiguous():  # not an assertion: without it a kernel would read foreign memory
            raise ValueError("a kernel reads memory in order")
        return c_void_p(argument.data_ptr())
    if argument is None:
        return None
    return c_float(argument) if isinstance(argument, float) else c_int64(argument)
