"""φ: trained 1×1 convolutions that bring the student's features to the teacher's channels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdet.distill.pairing import LevelPair
from kdet.distill.terms import AdapterMode
from kdet.errors import InputError
from kdet.types import Detector


class Adapter(nn.Module):
    """One biased 1×1 convolution per paired level, no norm, no activation."""

    def __init__(self, levels: Sequence[LevelPair], *, identity_start: bool = True) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            _convolution(p.student_channels, p.teacher_channels, identity_start) for p in levels
        )

    def forward(self, features: list[Tensor], positions: Sequence[int] | None = None) -> list[Tensor]:
        """N×C×H×W per level, C the student's → the teacher's; of the levels at these positions, or of all."""
        chosen = self.convolutions if positions is None else [self.convolutions[i] for i in positions]
        return [convolution(f) for convolution, f in zip(chosen, features, strict=True)]


class NoAdapter(nn.Module):
    """The features as they are."""

    def forward(self, features: list[Tensor], positions: Sequence[int] | None = None) -> list[Tensor]:
        """The same list."""
        return features


def _convolution(student_channels: int, teacher_channels: int, identity_start: bool) -> nn.Conv2d:
    """The identity at first, where that is wanted and the channels agree; else PyTorch's usual start."""
    convolution = nn.Conv2d(student_channels, teacher_channels, 1)
    if identity_start and student_channels == teacher_channels:
        with torch.no_grad():
            nn.init.dirac_(convolution.weight)
            nn.init.zeros_(convolution.bias)  # pyright: ignore[reportArgumentType]
    return convolution


def make_adapter(mode: AdapterMode, levels: Sequence[LevelPair], student: Detector, teacher: Detector) -> nn.Module:
    """Make the adapter for a term's mode; `auto` as the structural paper found φ of use: across architectures.

    Raises:
        InputError: `never`, where the channels differ.
    """
    differ = [p for p in levels if p.student_channels != p.teacher_channels]
    if mode == "never" and differ:
        raise InputError(
            f"stride {differ[0].stride}: {differ[0].student_channels} student channels against "
            f"{differ[0].teacher_channels} teacher channels need an adapter; set `adapter: auto`"
        )
    if not levels or mode == "never":
        return NoAdapter()
    if mode == "auto" and not differ and student.architecture == teacher.architecture:
        return NoAdapter()
    return Adapter(levels, identity_start=mode != "always")
