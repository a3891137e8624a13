"""Where φ stands, and how it starts."""

import pytest
import torch
from distill_cases import student, teacher

from kdet.distill import Distiller
from kdet.distill.adapters import Adapter, NoAdapter
from kdet.distill.methods import structural
from kdet.errors import InputError


def adapter(mode, of_teacher):
    """The adapter of a term in this mode, for a student with a neck of 32 channels."""
    pair = Distiller(student(), of_teacher, structural(adapter=mode))
    assert pair.criterion is not None
    return pair.criterion.adapters["structural"]


def kin():
    """The same detector, backbone family and channels: nothing for φ to mend."""
    return teacher(fpn_channels=32)


def is_identity(made):
    features = [torch.randn(2, 32, 5, 4) for _ in made.convolutions]
    return all(torch.allclose(a, f, atol=1e-6) for a, f in zip(made(features), features, strict=True))


def test_auto_stands_where_channels_or_families_differ_and_nowhere_else():
    assert isinstance(adapter("auto", kin()), NoAdapter)
    assert isinstance(adapter("auto", teacher()), Adapter)
    other_family = adapter("auto", teacher("fcos", fpn_channels=32))
    assert isinstance(other_family, Adapter) and is_identity(other_family)


def test_identity_start_and_always_stand_everywhere_and_start_apart():
    assert is_identity(adapter("identity-start", kin()))
    assert not is_identity(adapter("always", kin()))


def test_other_channels_cannot_start_as_the_identity():
    made = adapter("identity-start", teacher())
    assert [c.weight.shape for c in made.convolutions] == [(64, 32, 1, 1)] * 5
    assert all(bool(c.weight.abs().min() > 0) for c in made.convolutions)


def test_never_is_refused_where_channels_differ():
    assert isinstance(adapter("never", kin()), NoAdapter)
    with pytest.raises(InputError, match="32 student channels against 64 teacher channels need an adapter"):
        adapter("never", teacher())
