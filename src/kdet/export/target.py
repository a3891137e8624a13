"""What a target is: one kind of file, written from a graph and run again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from kdet.errors import InputError
from kdet.export.about import About
from kdet.export.graph import Graph

Run = Callable[[Tensor], Sequence[Tensor]]
"""Images N×3×H×W → the file's outputs in their order."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One kind of file."""

    name: str
    """Name in `--to`."""
    suffix: str
    needs: tuple[str, ...]
    """Modules that write and run it."""
    extra: str
    """The extra of kdet that brings them; empty: they are there."""
    write: Callable[[Graph, About, Path], None]
    """The graph and its metadata into a file."""
    open: Callable[[Path, bool], tuple[About, Run]]
    """A file's metadata, and how it is run: in float32 throughout, or (False) as its toolkit chooses."""
    own_precision: Callable[[], str] = lambda: "fp32"
    """What the toolkit chooses for a file in float32 on this processor: fp32, bf16 or fp16."""
    selects: bool = True
    """Whether NMS can be part of it."""
    any_batch: bool = True
    """Whether one file can take any number of images."""

    def missing(self) -> list[str]:
        """Modules that it needs and that are not installed."""
        return [module for module in self.needs if find_spec(module) is None]

    def require(self) -> None:
        """Raises InputError where its toolkit is missing."""
        if missing := self.missing():
            raise InputError(f"--to {self.name} needs {', '.join(missing)}: pip install 'kdet[{self.extra}]'")
