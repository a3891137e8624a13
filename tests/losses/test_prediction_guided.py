"""What prediction-guided imitation must give, by the values of its specification."""

import pytest
import torch

from kdet.losses import prediction_guided_loss


def maps(channels: int, *size: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 2, channels, *size).unbind()


def test_a_value_by_hand():
    """One channel each, two cells: P_dif = 4, 1 and F_dif = 1, 9, so the product is 4, 9."""
    f_s, f_t = torch.tensor([0.0, 0.0]).view(1, 1, 1, 2), torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    p_s, p_t = torch.tensor([0.0, 0.0]).view(1, 1, 1, 2), torch.tensor([-2.0, 1.0]).view(1, 1, 1, 2)
    norm = (4**2 + 9**2) ** 0.5
    assert prediction_guided_loss(f_s, f_t, p_s, p_t, reduction="l2").item() == pytest.approx(norm / 2)
    assert prediction_guided_loss(f_s, f_t, p_s, p_t).item() == pytest.approx(13 / 2)
    # A level of zeros halves the mean over levels.
    zero = torch.zeros(1, 1, 2, 2)
    both = prediction_guided_loss([f_s, zero], [f_t, zero], [p_s, zero], [p_t, zero], reduction="l2")
    assert both.item() == pytest.approx(norm / 4)


@pytest.mark.parametrize("reduction", ["l2", "mean"])
def test_features_learn_only_where_predictions_differ(reduction):
    (f_s, f_t), (p_s, _) = maps(4, 8, 8), maps(3, 8, 8)
    p_t = p_s.clone()
    p_t[..., 2:5, 3:6] += 1
    f_s.requires_grad_()
    prediction_guided_loss(f_s, f_t, p_s, p_t, reduction=reduction).backward()
    assert f_s.grad is not None
    moved = f_s.grad.abs().sum((0, 1)) > 0
    assert moved[2:5, 3:6].all() and moved.sum() == 9


def test_equal_features_give_zero_and_a_finite_gradient():
    """The norm has no derivative at 0; ours is 0 there."""
    (features, _), (p_s, p_t) = maps(4, 5, 5), maps(3, 5, 5)
    student = features.clone().requires_grad_()
    loss = prediction_guided_loss(student, features, p_s, p_t, reduction="l2")
    loss.backward()
    assert loss.item() == 0 and student.grad is not None and not student.grad.any()


def test_detached_weight_leaves_the_classifier_alone():
    (f_s, f_t), (p_s, p_t) = maps(4, 5, 5), maps(3, 5, 5)
    f_s.requires_grad_(), p_s.requires_grad_()
    loss = prediction_guided_loss(f_s, f_t, p_s, p_t, detach_weight=True)
    torch.testing.assert_close(loss, prediction_guided_loss(f_s, f_t, p_s, p_t))
    loss.backward()
    assert p_s.grad is None and f_s.grad is not None and f_s.grad.any()


def test_logits_on_other_cells_are_refused():
    (f_s, f_t), (p_s, p_t) = maps(4, 5, 5), maps(3, 5, 4)
    with pytest.raises(ValueError, match="expected logits of level 0 on the features' images and cells"):
        prediction_guided_loss(f_s, f_t, p_s, p_t)
    with pytest.raises(ValueError, match="expected logits for 2 levels of features, got 1"):
        prediction_guided_loss([f_s, f_s], [f_t, f_t], [p_s], [p_t])


def test_unknown_options_are_refused():
    (f_s, f_t), (p_s, p_t) = maps(4, 5, 5), maps(3, 5, 5)
    with pytest.raises(ValueError, match='expected reduction "l2" or "mean"'):
        prediction_guided_loss(f_s, f_t, p_s, p_t, reduction="sum")
    with pytest.raises(ValueError, match='expected prediction "logit" or "probability"'):
        prediction_guided_loss(f_s, f_t, p_s, p_t, prediction="score")
