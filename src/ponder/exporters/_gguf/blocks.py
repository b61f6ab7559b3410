"""Numbers into the blocks of a quantised form: by numpy where it can, by llama.cpp's own code for the K forms.

llama.cpp's library comes with the pinned wheel `xllamacpp`, which exports its quantiser though it has no Python call
for it. That is no promise of the wheel's, so every tensor that it made is decoded again by another hand (`gguf.quants`)
and compared with what went in.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

from ponder.core.errors import DataError, PonderError, ResourceError
from ponder.core.types import FloatArray

LIBRARY = "xllamacpp"
LARGEST_ERROR = {
    Kind.Q8_0: 0.02, Kind.Q6_K: 0.06, Kind.Q5_0: 0.12, Kind.Q5_1: 0.12, Kind.Q5_K: 0.12, Kind.Q4_0: 0.25,
    Kind.Q4_1: 0.25, Kind.Q4_K: 0.25, Kind.IQ4_NL: 0.25, Kind.Q3_K: 0.45, Kind.Q2_K: 0.75, Kind.F16: 2e-3,
    Kind.BF16: 1e-2, Kind.F32: 1e-7,
}  # fmt: skip
"""Root mean square of the error over that of the numbers, above which a tensor was not quantised but damaged."""
LEAST = 1e-6
"""Of a column's importance, over the mean of all."""
BY_NUMPY = (Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0)


def quantised(
    values: FloatArray, kind: Kind, importance: FloatArray | None = None, name: str = "a tensor"
) -> np.ndarray[Any, Any]:
    """The bytes of a matrix in a form, row by row.

    Args:
        values: (rows, columns) finite; columns are whole blocks of the form.
        kind: The form.
        importance: (columns,) how much the square of each column's error matters; None: all alike.
        name: For messages.

    Raises:
        DataError: If the importance is no importance of these columns.
        PonderError: If what was made is not what went in.
        ResourceError: If the form needs llama.cpp's library, and it is not there.
    """
    if not needs_library(kind, importance is not None):
        return np.ascontiguousarray(gguf.quants.quantize(values, kind))
    weights = None if importance is None else _weights(importance, values.shape[-1], name)
    made = _by_llama(np.ascontiguousarray(values, np.float32), kind, weights)
    _check(values, made, kind, name)
    return made


def error_of(values: FloatArray, data: np.ndarray[Any, Any], kind: Kind) -> float:
    """Root mean square of the error of a quantised tensor over that of its numbers; 0 where all are 0.

    Raises:
        DataError: If something in it decodes to no finite number.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        decoded = gguf.quants.dequantize(data, kind).reshape(values.shape)
    if not np.isfinite(decoded).all():
        raise DataError(f"a tensor in {kind.name} has numbers that are not finite")
    size = float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))
    return float(np.sqrt(np.mean((decoded.astype(np.float64) - values) ** 2))) / size if size else 0.0


def needs_library(kind: Kind, weighed: bool) -> bool:
    """Whether a form is beyond numpy; `weighed`: where some columns are to matter more than others."""
    return kind not in BY_NUMPY or (weighed and kind is Kind.Q4_0)


def check_library() -> None:
    """Refuse before anything is written.

    Raises:
        ResourceError: If llama.cpp's quantiser is not there.
    """
    _library()


def _check(values: FloatArray, made: np.ndarray[Any, Any], kind: Kind, name: str) -> None:
    fix = f"install the pinned version of {LIBRARY} (pip install 'ponder[gguf]'), or export q8_0"
    try:
        error = error_of(values, made, kind)
    except DataError as found:
        raise PonderError(f"llama.cpp's quantiser failed: {found.what}", where=name, fix=fix) from found
    if error > LARGEST_ERROR[kind]:
        what = f"llama.cpp's quantiser made {kind.name} with an error of {100 * error:.0f} % of the numbers"
        raise PonderError(what, where=name, fix=fix)


def _weights(importance: FloatArray, columns: int, name: str) -> FloatArray:
    """(columns,) none of them 0, for where a whole block matters nothing the quantiser divides by nothing."""
    if importance.shape != (columns,):
        raise DataError(f"an importance of shape {importance.shape} for {columns} columns", where=name)
    if not np.isfinite(importance).all() or (importance < 0).any():
        raise DataError("an importance has numbers that are negative or not finite", where=name)
    mean = float(importance.mean(dtype=np.float64))
    return np.ascontiguousarray(np.maximum(importance, LEAST * mean) if mean else np.ones(columns), np.float32)


def _by_llama(values: FloatArray, kind: Kind, weights: FloatArray | None) -> np.ndarray[Any, Any]:
    rows, columns = values.shape
    block, size = gguf.GGML_QUANT_SIZES[kind]
    made = np.empty((rows, columns // block * size), np.uint8)
    pointer = ctypes.POINTER(ctypes.c_float)
    written = _library().ggml_quantize_chunk(
        int(kind),
        values.ctypes.data_as(pointer),
        made.ctypes.data_as(ctypes.c_void_p),
        0,
        rows,
        columns,
        None if weights is None else weights.ctypes.data_as(pointer),
    )
    if written != made.nbytes:
        raise PonderError(f"llama.cpp's quantiser wrote {written} bytes of {made.nbytes}", fix="export q8_0")
    return made


@cache
def _library() -> Any:
    found = importlib.util.find_spec(LIBRARY)
    places = list(found.submodule_search_locations or ()) if found else []
    for path in (file for place in places for ending in ("*.so", "*.pyd") for file in sorted(Path(place).glob(ending))):
        library = ctypes.CDLL(str(path))
        quantise = getattr(library, "ggml_quantize_chunk", None)
        if quantise is not None:
            quantise.restype = ctypes.c_size_t
            quantise.argtypes = [
                ctypes.c_int, ctypes.POINTER(ctypes.c_float), ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
                ctypes.c_int64, ctypes.POINTER(ctypes.c_float),
            ]  # fmt: skip
            return library
    raise ResourceError(
        f"K forms and weighed ones are made by llama.cpp's library, which comes with {LIBRARY}, and it is not here",
        fix="pip install 'ponder[gguf]', or export q8_0, or q4_0 with weighed_by: 0, which need no library",
    )
