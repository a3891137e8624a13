"""What focal and global distillation must give: by hand, part by part, and with maps of real boxes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdet.losses import FGDLoss
from kdet.ops.regions import background_mask, foreground_by_area

OFF = {"alpha": 0.0, "beta": 0.0, "gamma": 0.0, "lambda_": 0.0}
L = math.log(3)


def row(*values: float) -> torch.Tensor:
    """One image of one channel and one row."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


def column_of_channels(*values: float) -> torch.Tensor:
    """One image of one cell."""
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, *shape).unbind()


def unit_maps(images: int, height: int, width: int) -> dict[str, torch.Tensor]:
    ones = torch.ones(images, 1, height, width)
    return {"foreground": ones, "background": ones}


def randomised(module: FGDLoss) -> FGDLoss:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # T = 0, ln 3 and S = −ln 3, 0 with τ = 1: the softmax of |T| is 1/4, 3/4, that of |S| 3/4, 1/4, each times 2.
        # The gap is ln² 3 in both cells. The object is in the first, the background in the second.
        ({"alpha": 1.0}, 0.5 * L**2),
        ({"beta": 1.0}, 1.5 * L**2),
        ({"gamma": 1.0}, 2.0),  # |1.5 − 0.5| + |0.5 − 1.5|; a single channel has no channel attention
        ({"lambda_": 1.0}, 2 * L**2),  # the context blocks start at nothing
        ({"alpha": 2.0, "beta": 3.0, "gamma": 5.0, "lambda_": 7.0}, 2 * 0.5 * L**2 + 3 * 1.5 * L**2 + 10 + 14 * L**2),
    ],
)
def test_each_part_by_hand(options, expected):
    module = FGDLoss([1], **{**OFF, **options}, temperature=1.0)
    s, t, maps = row(-L, 0), row(0, -L), {"foreground": row(1, 0), "background": row(0, 1)}
    assert module(s, t, **maps).item() == pytest.approx(expected)
    # A second image in which both agree halves the mean.
    maps = {name: torch.cat([m, m]) for name, m in maps.items()}
    assert module(torch.cat([s, t]), torch.cat([t, t]), **maps).item() == pytest.approx(expected / 2)


def test_channel_attention_by_hand():
    """One cell, T = 0, ln 3: the channels weigh 2 · 1/4 and 2 · 3/4; with S = 1, ln 3 only the first has a gap."""
    module = FGDLoss([2], **{**OFF, "alpha": 1.0}, temperature=1.0)
    s, t = column_of_channels(1, L), column_of_channels(0, L)
    assert module(s, t, **unit_maps(1, 1, 1)).item() == pytest.approx(0.5)
    # At half the temperature the magnitudes count twice: 1/10 and 9/10.
    module = FGDLoss([2], **{**OFF, "alpha": 1.0}, temperature=0.5)
    assert module(s, t, **unit_maps(1, 1, 1)).item() == pytest.approx(0.2)


def test_levels_are_added():
    module = randomised(FGDLoss([4, 6]))
    s, t = ([torch.randn(2, c, 3, 3) for c in (4, 6)] for _ in range(2))
    total = module(s, t, foreground=[torch.ones(2, 1, 3, 3)] * 2, background=[torch.ones(2, 1, 3, 3)] * 2)
    parts = []
    for level, channels in enumerate((4, 6)):
        single = FGDLoss([channels])
        single.student_contexts[0].load_state_dict(module.student_contexts[level].state_dict())
        single.teacher_contexts[0].load_state_dict(module.teacher_contexts[level].state_dict())
        parts.append(single(s[level], t[level], **unit_maps(2, 3, 3)))
    torch.testing.assert_close(total, parts[0] + parts[1])


def test_focal_looks_only_where_the_maps_say():
    module = FGDLoss([3], gamma=0, lambda_=0)
    s, t = pair(1, 3, 6, 6)
    s.requires_grad_()
    foreground, background = torch.zeros(2, 1, 1, 6, 6).unbind()
    foreground[..., 1:3, 2:4], background[..., 5, 5] = 0.25, 1.0
    module(s, t, foreground=foreground, background=background).backward()
    assert torch.equal(s.grad.ne(0).all((0, 1)), (foreground + background)[0, 0] > 0)


def test_context_makes_equal_features_differ():
    """The value for equal models is 0 only as long as the two blocks agree."""
    features = torch.randn(2, 4, 3, 3)
    module = FGDLoss([4])
    assert module(features, features.clone(), **unit_maps(2, 3, 3)).item() == 0
    assert randomised(module)(features, features.clone(), **unit_maps(2, 3, 3)).item() > 0


def test_every_weight_learns_and_nothing_else_is_kept():
    """At the start only the last convolutions move; after one step all do."""
    module, (s, t) = FGDLoss([8]), pair(2, 8, 5, 5)
    assert all(name.startswith(("student_contexts.0", "teacher_contexts.0")) for name in module.state_dict())
    module(s, t, **unit_maps(2, 5, 5)).backward()
    assert all(p.grad is not None for p in module.parameters())
    assert all(p.grad.any() == name.split(".")[2].startswith("expand") for name, p in module.named_parameters())
    torch.optim.SGD(module.parameters(), lr=1e3).step()
    module.zero_grad()
    module(s, t, **unit_maps(2, 5, 5)).backward()
    assert all(p.grad.any() for p in module.parameters())


def test_a_level_of_one_channel_has_a_context_too():
    assert FGDLoss([1])(*pair(1, 1, 2, 2), **unit_maps(1, 2, 2)).isfinite()


corners = st.tuples(*[st.integers(0, 40)] * 4)


@settings(max_examples=20)
@given(st.lists(st.lists(corners, max_size=3), min_size=1, max_size=3), st.integers(1, 4), st.integers(1, 5))
def test_maps_of_any_boxes(images, height, width):
    """Images without objects or without background, and the mean over images."""
    boxes = [
        torch.tensor([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in image], dtype=torch.float32)
        for image in images
    ]
    boxes = [b.reshape(-1, 4) for b in boxes]
    maps = {
        "foreground": foreground_by_area(boxes, (height, width), (40, 40)),
        "background": background_mask(boxes, (height, width), (40, 40)),
    }
    module, (s, t) = randomised(FGDLoss([4])), pair(len(images), 4, height, width)
    s.requires_grad_()
    loss = module(s, t, **maps)
    loss.backward()
    assert loss >= 0 and s.grad.isfinite().all()
    alone = [
        module(s[n : n + 1], t[n : n + 1], **{name: m[n : n + 1] for name, m in maps.items()})
        for n in range(len(images))
    ]
    torch.testing.assert_close(loss, torch.stack(alone).mean())


def test_what_does_not_fit_is_refused():
    features = torch.rand(1, 2, 4, 4)
    with pytest.raises(ValueError, match="expected a temperature above 0, got 0"):
        FGDLoss([2], temperature=0)
    with pytest.raises(ValueError, match=r"expected levels of \[3\] channels, got \[2\]"):
        FGDLoss([3])(features, features, **unit_maps(1, 4, 4))
    for name in ("foreground", "background"):
        maps = {**unit_maps(1, 4, 4), name: torch.ones(1, 1, 4, 5)}
        with pytest.raises(ValueError, match=f"expected {name} of level 0 of shape"):
            FGDLoss([2])(features, features, **maps)
