"""What masked generation must give: by hand, and what is asked of the mask."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdet.losses import MGDLoss


def copying(channels: int) -> MGDLoss:
    """One level; the generator gives back what it sees, where that is not negative."""
    module = MGDLoss([channels])
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.zero_()
            if name.endswith("weight"):
                for c in range(channels):
                    parameter[c, c, 1, 1] = 1
    return module


def row(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


def test_a_value_by_hand():
    """S = 2, 3 and T = 1, 4. Both seen: 1² + 1². The second hidden: 1² + 4². A second image without error halves it."""
    module, s, t = copying(1), row(2, 3), row(1, 4)
    assert module(s, t, keep=row(1, 1)).item() == pytest.approx(2)
    assert module(s, t, keep=row(1, 0)).item() == pytest.approx(17)
    two_images = (torch.cat([s, row(5, 5)]), torch.cat([t, row(5, 5)]))
    assert module(*two_images, keep=torch.ones(2, 1, 1, 2)).item() == pytest.approx(1)


def test_levels_are_added():
    module = MGDLoss([3, 4])
    features = [[torch.rand(2, c, 4, 4) for c in (3, 4)] for _ in range(2)]
    keep = [torch.ones(2, 1, 4, 4)] * 2
    parts = []
    for level, channels in enumerate((3, 4)):
        single = MGDLoss([channels])
        single.generators[0].load_state_dict(module.generators[level].state_dict())
        parts.append(single(features[0][level], features[1][level], keep=keep[level]))
    torch.testing.assert_close(module(*features, keep=keep), parts[0] + parts[1])


def test_the_loss_is_a_sum_over_cells():
    """Four times the cells, four times the loss: the weight has to follow the size of the map."""
    module, s, t = copying(2), torch.rand(1, 2, 4, 4), torch.rand(1, 2, 4, 4)
    small = module(s, t, keep=torch.ones(1, 1, 4, 4))
    large = module(s.repeat(1, 1, 2, 2), t.repeat(1, 1, 2, 2), keep=torch.ones(1, 1, 8, 8))
    torch.testing.assert_close(large, 4 * small)


def test_the_drawn_mask():
    """With T = 0 and S = 1 the loss counts the cells that are seen, once for each channel."""
    module, ones, zeros = copying(2), torch.ones(4, 2, 50, 50), torch.zeros(4, 2, 50, 50)
    counts = [module(ones[:1], zeros[:1]).item() for _ in range(3)]
    assert len(set(counts)) > 1 and all(count % 2 == 0 for count in counts)
    # 10⁴ cells seen with probability 0.35: the mean of 4 images lies within five standard deviations.
    spread = 5 * math.sqrt(0.35 * 0.65 / 1e4)
    assert module(ones, zeros).item() / 2 / 2500 == pytest.approx(0.35, abs=spread)


def test_the_mask_hides_a_cell_in_all_channels_and_differs_between_images():
    module = copying(3)
    student = torch.ones(2, 3, 8, 8, requires_grad=True)
    module(student, torch.zeros(2, 3, 8, 8)).backward()
    seen = student.grad != 0
    assert torch.equal(seen, seen[:, :1].expand_as(seen))
    assert 0 < seen[0].sum() < seen[0].numel() and not torch.equal(seen[0], seen[1])


def test_the_global_generator_decides():
    module, s, t = MGDLoss([2]), torch.rand(1, 2, 6, 6), torch.rand(1, 2, 6, 6)
    torch.manual_seed(3)
    first = module(s, t)
    torch.manual_seed(3)
    assert torch.equal(module(s, t), first)
    assert not torch.equal(module(s, t), first)


def test_ratio_zero_hides_nothing():
    module, s, t = MGDLoss([2], mask_ratio=0), torch.rand(1, 2, 6, 6), torch.rand(1, 2, 6, 6)
    assert torch.equal(module(s, t), module(s, t, keep=torch.ones(1, 1, 6, 6)))


def test_every_weight_learns_and_nothing_else_is_kept():
    module = MGDLoss([2, 3])
    assert all(name.startswith("generators.") for name in module.state_dict())
    module(*[[torch.rand(2, c, 4, 4) for c in (2, 3)] for _ in range(2)]).backward()
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
def test_the_mean_over_images(images, channels, height, width):
    module, keep = MGDLoss([channels]), (torch.rand(images, 1, height, width) > 0.5).float()
    s, t = torch.rand(2, images, channels, height, width).unbind()
    alone = [module(s[n : n + 1], t[n : n + 1], keep=keep[n : n + 1]) for n in range(images)]
    torch.testing.assert_close(module(s, t, keep=keep), torch.stack(alone).mean())


def test_what_does_not_fit_is_refused():
    features = torch.rand(1, 2, 4, 4)
    for ratio in (-0.1, 1.0):
        with pytest.raises(ValueError, match="expected a mask ratio of at least 0 and below 1, got"):
            MGDLoss([2], mask_ratio=ratio)
    with pytest.raises(ValueError, match=r"expected levels of \[3\] channels, got \[2\]"):
        MGDLoss([3])(features, features)
    with pytest.raises(ValueError, match=r"expected levels of \[2, 2\] channels, got \[2\]"):
        MGDLoss([2, 2])(features, features)
    with pytest.raises(ValueError, match="expected keep of level 0 of shape"):
        MGDLoss([2])(features, features, keep=torch.ones(1, 2, 4, 4))
