"""Reads and checks the header of a safetensors file before a library sees the file, which may come from anyone.

The format: 8 bytes with the length of the header, the header as JSON, and the numbers of all tensors end to end.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ponder.core.errors import DataError, ResourceError

MAX_HEADER = 4 * 2**20
"""Bytes: room for thirty thousand tensors in one file."""
MAX_LISTS = 100_000
"""Of a header, where each tensor has two; millions take seconds to read."""
MAX_DIMENSIONS = 8
MAX_NUMBERS = 2**48
"""Of one tensor."""
METADATA = "__metadata__"
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "U16": 16, "I16": 16, "F16": 16,
    "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Of a number of each type; all others are refused."""
_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"[\w][\w.-]*\.safetensors", re.ASCII)


@dataclass(frozen=True, slots=True)
class SafeTensor:
    """An entry of the header."""

    kind: str
    """Type of its numbers: F32, BF16, ..."""
    shape: tuple[int, ...]
    begin: int
    end: int
    """Of its data, bytes behind the header."""

    @property
    def numbers(self) -> int:
        """How many it holds."""
        return math.prod(self.shape)


def read_safe_header(path: Path) -> dict[str, SafeTensor]:
    """The tensors of a safetensors file by name.

    Raises:
        DataError: If anything in the header is not as the format has it; names the tensor.
        ResourceError: If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise _refusal(path, f"its header claims {length} bytes, and {max(0, size - 8)} follow")
            if length > MAX_HEADER:
                raise _refusal(path, f"its header has {length} bytes, and may have {MAX_HEADER}")
            header = file.read(length)
    except OSError as error:
        raise ResourceError(f"this file cannot be read: {error}", where=str(path)) from error
    entries = _entries(path, header)
    found = {name: _tensor(path, name, entry) for name, entry in entries.items() if name != METADATA}
    _check_metadata(path, entries.get(METADATA, {}))
    _check_places(path, found, size - 8 - length)
    return found


def check_index(folder: Path) -> None:
    """Refuse an index of shards that names anything but files beside it, or is none.

    Raises:
        DataError: If it does.
        ResourceError: If it cannot be read.
    """
    path = folder / _INDEX
    if not path.exists():
        return
    try:
        declared = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResourceError(f"this file cannot be read: {error}", where=str(path)) from error
    except (ValueError, RecursionError):
        raise DataError("this index of shards is not valid JSON", where=str(path)) from None
    shards = declared.get("weight_map") if isinstance(declared, dict) else None
    if not isinstance(shards, dict):
        raise DataError("this index of shards has no weight_map", where=str(path))
    for shard in shards.values():
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
            what = f"this index names {_shown(shard)}, which is no safetensors file beside it"
            raise DataError(what, where=str(path))


def _entries(path: Path, header: bytes) -> dict[str, Any]:
    """The header as JSON, no name in it twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise _refusal(path, f"{_shown(name)} is there twice")
            found[name] = value
        return found

    if max(header.count(b"["), header.count(b"{")) > MAX_LISTS:
        raise _refusal(path, "its header has too many lists or objects")
    try:
        found = json.loads(header.decode("utf-8", "strict"), object_pairs_hook=once)
    except DataError:
        raise
    except (ValueError, RecursionError):
        raise _refusal(path, "its header is not JSON, or is nested too deeply") from None
    if not isinstance(found, dict):
        raise _refusal(path, "its header is no JSON object")
    return found


def _tensor(path: Path, name: str, entry: Any) -> SafeTensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _refusal(path, f"{_shown(name)} does not have type, shape and place")
    kind, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in BITS:
        raise _refusal(path, f"{_shown(name)} is of the unknown type {_shown(kind)}")
    if not _are_counts(shape) or len(shape) > MAX_DIMENSIONS or math.prod(shape) > MAX_NUMBERS:
        raise _refusal(path, f"{_shown(name)} has the shape {_shown(shape)}")
    if not _are_counts(place) or len(place) != 2:
        raise _refusal(path, f"{_shown(name)} lies at {_shown(place)}")
    tensor = SafeTensor(kind, tuple(shape), *place)
    if (tensor.end - tensor.begin) * 8 != tensor.numbers * BITS[kind]:
        raise _refusal(path, f"{_shown(name)} has {tensor.end - tensor.begin} bytes, which its shape does not fill")
    return tensor


def _check_metadata(path: Path, metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _refusal(path, "what it tells beside its tensors is not all text")


def _check_places(path: Path, found: dict[str, SafeTensor], data: int) -> None:
    """Tensors lie end to end: none over another, nothing between or behind them."""
    at = 0
    for name, tensor in sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != at:
            other = "over another tensor" if tensor.begin < at else "behind a gap"
            raise _refusal(path, f"{_shown(name)} lies {other}")
        at = tensor.end
    if at != data:
        raise _refusal(path, f"its tensors have {at} bytes, and it holds {data}")


def _are_counts(value: Any) -> bool:
    """Whether it is a list of whole numbers of a size that files have."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _shown(value: Any) -> str:
    """For an error: short, and no name can steer a terminal."""
    return ascii(value if not isinstance(value, str) else value[:80])[:100]


def _refusal(path: Path, what: str) -> DataError:
    return DataError(f"this safetensors file cannot be read: {what}", where=str(path), fix="get or save the file again")
