"""Weights files with anything in them. Name → function that writes one, words of the message."""

import io
import json
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from struct import pack
from typing import Any

import torch
from hostile_cases import Words, put
from safetensors.torch import save
from torch import Tensor

PLAIN = "not a file of plain tensors"
DAMAGED = "not a readable safetensors file"
STATE = "expected a state_dict"


class Payload:
    """Unpickled, it makes a file: the sign that foreign code ran."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.sign,))


class Call:
    """The same by way of a command."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[Any, ...]:
        return (subprocess.call, (["touch", str(self.sign)],))


def torch_bytes(content: Any, **options: Any) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def packed(content: bytes) -> bytes:
    """A torch file whose entries are compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return buffer.getvalue()


def replaced(name: str, data: bytes) -> bytes:
    """A torch file with other bytes in one of its entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(torch_bytes(TENSORS))) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, data if entry.filename.endswith(name) else old.read(entry))
    return buffer.getvalue()


TENSORS: dict[str, Tensor] = {"weight": torch.ones(4, 4)}
Make = Callable[[Path], bytes]
"""Given the path of the sign that must not appear."""

TORCH: dict[str, tuple[Make, Words]] = {
    "0 bytes": (lambda sign: b"", PLAIN),
    "noise": (lambda sign: bytes(range(256)) * 8, PLAIN),
    "text": (lambda sign: b"weights\n", PLAIN),
    "a page of the web": (lambda sign: b"<!DOCTYPE html><html>404</html>", PLAIN),
    "a pointer of git lfs": (lambda sign: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", PLAIN),
    "an image": (lambda sign: b"\x89PNG\r\n\x1a\n" + bytes(60), PLAIN),
    "cut in the middle": (lambda sign: (whole := torch_bytes(TENSORS))[: len(whole) // 2], PLAIN),
    "all but the end": (lambda sign: torch_bytes(TENSORS)[:-30], PLAIN),
    "an empty zip": (lambda sign: b"PK\x05\x06" + bytes(18), PLAIN),
    "a zip of something else": (lambda sign: _zipped("a.txt", b"hello"), PLAIN),
    "a zip that leaves its folder": (lambda sign: _zipped("../../x/data.pkl", b"\x80\x02}."), PLAIN),
    "pickle of nothing": (lambda sign: replaced("data.pkl", b""), PLAIN),
    "pickle cut": (lambda sign: replaced("data.pkl", b"\x80\x02}q\x00X"), PLAIN),
    "pickle of an unknown opcode": (lambda sign: replaced("data.pkl", b"\x80\x02\xff."), PLAIN),
    "pickle that pops nothing": (lambda sign: replaced("data.pkl", b"\x80\x020000."), PLAIN),
    "pickle of a memo of nobody": (lambda sign: replaced("data.pkl", b"\x80\x02h\x09."), PLAIN),
    "storage too short": (lambda sign: replaced("data/0", bytes(8)), PLAIN),
    "compressed": (lambda sign: packed(torch_bytes(TENSORS)), "compressed"),
    "zip bomb": (lambda sign: packed(torch_bytes({"a": torch.zeros(2**22)})), "compressed"),
    "payload": (lambda sign: torch_bytes({"weight": Payload(sign)}), PLAIN),
    "payload that calls a command": (lambda sign: torch_bytes({"weight": Call(sign)}), PLAIN),
    "payload beside tensors": (lambda sign: torch_bytes({**TENSORS, "x": Payload(sign)}), PLAIN),
    "payload as a key": (lambda sign: torch_bytes({("a", Payload(sign)): 1}), PLAIN),
    "payload in the old form": (
        lambda sign: torch_bytes({"weight": Payload(sign)}, _use_new_zipfile_serialization=False),
        PLAIN,
    ),
    "payload as a plain pickle": (lambda sign: pickle.dumps(Payload(sign)), PLAIN),
    "payload of protocol 0": (lambda sign: f"cos\nsystem\n(S'touch {sign}'\ntR.".encode(), PLAIN),
    "payload in a list": (lambda sign: torch_bytes([TENSORS, Payload(sign)]), PLAIN),
    "payload under `model`": (lambda sign: torch_bytes({"model": {"w": Payload(sign)}}), PLAIN),
    "a whole module": (lambda sign: torch_bytes(torch.nn.Linear(2, 2)), PLAIN),
    "a function": (lambda sign: torch_bytes({"a": torch.relu}), PLAIN),
    "None": (lambda sign: torch_bytes(None), STATE),
    "a tensor": (lambda sign: torch_bytes(torch.ones(3)), STATE),
    "a list": (lambda sign: torch_bytes([torch.ones(3)]), STATE),
    "numbers": (lambda sign: torch_bytes({"a": 1}), STATE),
    "numbers as keys": (lambda sign: torch_bytes({1: torch.ones(3)}), STATE),
    "an optimizer": (lambda sign: torch_bytes({"state": {}, "param_groups": []}), STATE),
    "dictionaries in one another": (lambda sign: torch_bytes({"a": {"b": torch.ones(1)}}), STATE),
    "sparse": (lambda sign: torch_bytes({"a": torch.eye(3).to_sparse()}), ("'a'", "no plain array")),
    "complex": (lambda sign: torch_bytes({"a": torch.ones(3, dtype=torch.complex64)}), "no plain array"),
    "without data": (lambda sign: torch_bytes({"a": torch.empty(3, device="meta")}), "no plain array"),
}


def _zipped(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def tensors(header: Any, data: bytes = bytes(64), *, size: int | None = None) -> bytes:
    """A safetensors file with any header, which may lie about its length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return pack("<Q", len(text) if size is None else size) + text + data


def entry(**values: Any) -> dict[str, Any]:
    """A header of one tensor."""
    return {"a": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]} | values}


SAFETENSORS: dict[str, tuple[bytes, Words]] = {
    "0 bytes": (b"", DAMAGED),
    "7 bytes": (bytes(7), DAMAGED),
    "zeros": (bytes(100), DAMAGED),
    "text": (b"weights of a detector", DAMAGED),
    "a torch file": (torch_bytes(TENSORS), DAMAGED),
    "cut in the header": (save(TENSORS)[:20], DAMAGED),
    "cut in the data": (save(TENSORS)[:-8], DAMAGED),
    "something behind it": (save(TENSORS) + bytes(8), DAMAGED),
    "header longer than the file": (tensors(entry(), size=10**6), DAMAGED),
    "header of 2⁶³ bytes": (tensors(entry(), size=2**63), DAMAGED),
    "header of 2⁶⁴ - 1 bytes": (tensors(entry(), size=2**64 - 1), DAMAGED),
    "header shorter than it is": (tensors(entry(), size=10), DAMAGED),
    "header no JSON": (tensors(b"{a: 1}"), DAMAGED),
    "header a list": (tensors([1]), DAMAGED),
    "header no UTF-8": (tensors(b'{"\xff": 1}'), DAMAGED),
    "header 100,000 deep": (tensors(b"[" * 100_000), DAMAGED),
    "type of nobody": (tensors(entry(dtype="F33")), DAMAGED),
    "no shape": (tensors({"a": {"dtype": "F32", "data_offsets": [0, 64]}}), DAMAGED),
    "negative shape": (tensors(entry(shape=[-4, -4])), DAMAGED),
    "shape of 2⁶⁰": (tensors(entry(shape=[2**60])), DAMAGED),
    "shape that overflows": (tensors(entry(shape=[2**40, 2**40])), DAMAGED),
    "shape of a half": (tensors(entry(shape=[1.5])), DAMAGED),
    "offsets beyond the end": (tensors(entry(data_offsets=[0, 10**9])), DAMAGED),
    "offsets before the start": (tensors(entry(data_offsets=[-64, 0])), DAMAGED),
    "offsets reversed": (tensors(entry(data_offsets=[64, 0])), DAMAGED),
    "offsets with a hole": (tensors(entry(data_offsets=[32, 96]), bytes(96)), DAMAGED),
    "two tensors in one place": (tensors({**entry(), "b": entry()["a"]}), DAMAGED),
    "metadata of numbers": (tensors({**entry(), "__metadata__": {"kdet": 1}}), DAMAGED),
}

HEADER = "its header"
NO_DETECTOR = "describes no detector that kdet can build"
ABOUT: dict[str, tuple[Callable[[dict[str, Any]], Any], Words]] = {
    "no JSON": (lambda about: "{", (HEADER, "not JSON")),
    "nothing": (lambda about: "", (HEADER, "not JSON")),
    "100,000 deep": (lambda about: "[" * 100_000, (HEADER, "nested far too deep")),
    "5,000 digits": (lambda about: "9" * 5000, (HEADER, "not JSON")),
    "a list": (lambda about: [1], "none that kdet wrote"),
    "null": (lambda about: None, "none that kdet wrote"),
    "empty": (lambda about: {}, "none that kdet wrote"),
    "names of numbers": (lambda about: about | {"class_names": [1, 2]}, "none that kdet wrote"),
    "names a word": (lambda about: about | {"class_names": "cat"}, "none that kdet wrote"),
    "no names": (lambda about: about | {"class_names": []}, "none that kdet wrote"),
    "build a list": (lambda about: about | {"build": [1]}, "none that kdet wrote"),
    "build null": (lambda about: about | {"build": None}, "holds a module that was wrapped"),
    "too few names": (lambda about: about | {"class_names": ["cat"]}, NO_DETECTOR),
    "name twice": (lambda about: about | {"class_names": ["__background__", "a", "a", "b"]}, "'a' stands twice"),
}


def built(**values: Any) -> Callable[[dict[str, Any]], Any]:
    """The header with other build arguments."""
    return lambda about: about | {"build": about["build"] | values}


BUILD: dict[str, tuple[Callable[[dict[str, Any]], Any], Words]] = {
    "no detector": (lambda about: about | {"build": {"image_size": 64}}, NO_DETECTOR),
    "detector of nobody": (built(detector="yolo"), NO_DETECTOR),
    "detector a list": (built(detector=["retinanet"]), NO_DETECTOR),
    "another detector": (built(detector="fcos"), "made for another architecture"),
    "another width": (built(width=0.5), "made for another architecture"),
    "backbone of nobody": (built(backbone="resnet999"), NO_DETECTOR),
    "backbone dunder": (built(backbone="__class__"), NO_DETECTOR),
    "norm of nobody": (built(norm="layer"), NO_DETECTOR),
    "argument of nobody": (built(code="import os"), NO_DETECTOR),
    "a billion classes": (built(num_classes=10**9), NO_DETECTOR),
    "a million channels": (built(fpn_channels=2**20), "made for another architecture"),
    "a thousand widths": (built(width=1000), "made for another architecture"),
    "width no number": (built(width=float("nan")), NO_DETECTOR),
    "anchors infinite": (built(anchor_scale=float("inf")), NO_DETECTOR),
    "size 0": (built(image_size=0), NO_DETECTOR),
    "size of a billion": (built(image_size=10**9), NO_DETECTOR),
    "size a word": (built(image_size="large"), NO_DETECTOR),
    "size of three": (built(image_size=[64, 64, 64]), NO_DETECTOR),
    "library of nobody": (built(library="os.system"), NO_DETECTOR),
    "library of another kind": (built(library="resnet18"), NO_DETECTOR),
    "code of the user's": (built(detector="factory", factory="os:system", options={}), "--allow-code"),
}

TRANSFORMERS: dict[str, tuple[Callable[[dict[str, Any]], Any], Words]] = {
    "transformers' without a config": (built(detector="hf"), NO_DETECTOR),
    "transformers' of nobody": (built(detector="hf", config={"model_type": "nobody"}, pixels=None), NO_DETECTOR),
}


def with_header(path: Path, state: dict[str, Tensor], about: Any) -> Path:
    """A weights file whose header says this of it."""
    text = about if isinstance(about, str) else json.dumps(about)
    return put(path, save(state, metadata={"kdet": text}))
