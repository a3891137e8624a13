"""Tensors → a `.safetensors` file: the one writer, whose bytes depend on nothing but what it is given."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors, from whatever device.

    Args:
        tensors: by name; what two names share, as in D-FINE, is written twice, for a file holds each by itself.
        path: the file.
        metadata: texts for its header.

    Raises:
        SafetensorError, OSError: it cannot be written.
    """
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        memory = own.untyped_storage().data_ptr()
        plain[name] = own.clone() if memory in seen else own
        seen.add(memory)
    save_file(plain, path, metadata=None if metadata is None else dict(metadata))
    if metadata is not None and len(metadata) > 1:
        _sort_metadata(path)


def _sort_metadata(path: Path) -> None:
    """The library keeps them in a table whose order is drawn anew for every file; the rest it sorts itself.

    The format: eight bytes that count the header's, the header in JSON with spaces at its end, the numbers.
    """
    with path.open("r+b") as file:
        room = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(room))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        assert len(text) <= room, "the same JSON in another order"
        file.seek(8)
        file.write(text.ljust(room))
