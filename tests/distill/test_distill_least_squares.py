"""Adapters of `adapter: auto` start by least squares on the first batches."""

import numpy as np
import pytest
import torch
from distill_cases import batch, distiller, student, teacher

from kdet.distill import Distiller, fit_adapters
from kdet.distill.methods import crosskd, l2, soft_labels, structural
from kdet.types import Batch, Need


class Batches:
    """Counts how many are read."""

    def __init__(self, *batches: Batch):
        self.batches, self.read = batches, 0

    def __iter__(self):
        for one in self.batches:
            self.read += 1
            yield one


def cells(detector, images, level):
    features = detector.observe(images, frozenset({Need.FEATURES})).features
    return features[level].detach().movedim(1, 3).flatten(0, 2).double().numpy()


def by_numpy(own, theirs):
    """Ridge regression as least squares with rows added: one for each channel, and a column of ones."""
    mean, aim = own.mean(0), theirs.mean(0)
    penalty = np.sqrt(len(own) * 0.01 * (own - mean).var(0).mean()) * np.eye(own.shape[1])
    rows = np.concatenate([own - mean, penalty])
    aims = np.concatenate([theirs - aim, np.zeros((own.shape[1], theirs.shape[1]))])
    weight = np.linalg.lstsq(rows, aims, rcond=None)[0].T
    return weight, aim - weight @ mean


@pytest.mark.parametrize("level", [0, 3])
def test_each_level_is_a_ridge_regression_over_the_cells_of_all_batches(level):
    pair, seen = distiller(structural(adapter="auto")), batch()
    torch.manual_seed(5)
    other = Batch(**{**vars(seen), "images": torch.rand_like(seen.images)})
    own = np.concatenate([cells(pair.student, one, level) for one in (seen, other)])
    theirs = np.concatenate([cells(pair.teacher, one, level) for one in (seen, other)])
    assert fit_adapters(pair, [seen, other]) == ["structural"]
    weight, bias = by_numpy(own, theirs)
    made = pair.criterion.adapters["structural"].convolutions[level]
    np.testing.assert_allclose(made.weight[:, :, 0, 0].detach().numpy(), weight, atol=1e-4)
    np.testing.assert_allclose(made.bias.detach().numpy(), bias, atol=1e-4)


def test_the_maps_are_closer_than_with_a_random_start():
    pair, seen = distiller(l2()), batch()

    def value():
        return float(pair.criterion.raw(pair.observe_pair(seen)[1])["l2"].detach().sum())

    before = value()
    fit_adapters(pair, [seen])
    assert value() < before / 2


def test_nothing_but_the_adapters_changes_random_numbers_neither():
    pair, seen = distiller(structural()), batch()
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    torch.manual_seed(3)
    fit_adapters(pair, [seen])
    drawn = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(4))
    changed = {name for name, value in pair.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("criterion.adapters.")}
    assert all(parameter.grad is None for parameter in pair.parameters())


def test_eight_batches_are_read_and_none_without_an_adapter_to_fit():
    many = Batches(*[batch()] * 9)
    fit_adapters(distiller(structural()), many)
    assert many.read == 8
    for terms in (structural(adapter="always"), structural(adapter="identity-start"), soft_labels(), crosskd()):
        unread = Batches(batch())
        assert fit_adapters(distiller(terms), unread) == [] and unread.read == 0
    alike = Distiller(student(), teacher(width=0.25, fpn_channels=32), structural()).train()
    assert fit_adapters(alike, Batches(batch())) == [] and fit_adapters(Distiller(student()), [batch()]) == []


def test_channels_that_are_always_0_do_no_harm():
    pair = distiller(structural())
    with torch.no_grad():
        for parameter in pair.student.model.parameters():
            parameter.zero_()
    fit_adapters(pair, [batch()])
    theirs = cells(pair.teacher, batch(), 0).mean(0)
    made = pair.criterion.adapters["structural"].convolutions[0]
    assert not made.weight.any()
    np.testing.assert_allclose(made.bias.detach().numpy(), theirs, atol=1e-5)
