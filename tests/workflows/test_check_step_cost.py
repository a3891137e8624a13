"""What a forward pass keeps, counted where it can be counted by hand; what a step takes, by a clock that is known."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from distill.distill_cases import batch, distiller
from fakes import same_state, state_of
from kdet.distill.methods import structural
from kdet.train.processes.engine import Engine
from kdet.types import Batch
from kdet.workflows.check.step_cost import Side, kept_for_backward, measure, seconds_in_turns


class Squares(nn.Module):
    """Σ (w·x)^2 as often as wanted: each square keeps its input, the product keeps x and w."""

    def __init__(self, squares: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 8, 8))
        self.squares = squares

    def forward(self, batch: Batch) -> SimpleNamespace:
        value = batch.images * self.weight
        for _ in range(self.squares):
            value = value.square()
        return SimpleNamespace(total=value.sum())


@pytest.mark.parametrize("squares", [0, 1, 3])
def test_every_square_keeps_one_map_and_images_and_weights_are_not_counted(squares: int) -> None:
    images = torch.rand(2, 3, 8, 8)
    batch = Batch(images=images, sizes_hw=[(8, 8)] * 2, original_sizes_hw=[(8, 8)] * 2, image_ids=[1, 2])
    assert kept_for_backward(Squares(squares), batch, Engine()) == squares * images.nbytes


def test_what_two_operations_keep_together_is_counted_once() -> None:
    class Twice(Squares):
        def forward(self, batch: Batch) -> SimpleNamespace:
            value: Tensor = batch.images * self.weight
            return SimpleNamespace(total=(value.square() + value.square()).sum())

    batch = Batch(images=torch.rand(1, 3, 8, 8), sizes_hw=[(8, 8)], original_sizes_hw=[(8, 8)], image_ids=[1])
    assert kept_for_backward(Twice(0), batch, Engine()) == batch.images.nbytes


class Sleeper:
    """Takes so many ticks of a clock for a step, and writes down when it is asked."""

    criterion = None

    def __init__(self, name: str, ticks: float, clock: list[float], order: list[str]) -> None:
        self.name, self.ticks, self.clock, self.order = name, ticks, clock, order
        self.weight = nn.Parameter(torch.ones(()))

    def state_dict(self) -> dict[str, Tensor]:
        return {"weight": self.weight.detach()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            self.weight.copy_(state["weight"])

    def parameters(self) -> list[nn.Parameter]:
        return [self.weight]

    def __call__(self, batch: Batch) -> SimpleNamespace:
        self.order.append(self.name)
        busy = 1 + (len(self.order) - 1) // 3  # from one turn to the next the machine gets slower
        self.clock[0] += self.ticks * busy
        return SimpleNamespace(total=self.weight * 2)


def test_steps_are_taken_in_turns_so_that_a_busy_machine_meets_all_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, order = [0.0], list[str]()
    monkeypatch.setattr("kdet.workflows.check.step_cost.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    batch = Batch(images=torch.rand(1, 3, 8, 8), sizes_hw=[(8, 8)], original_sizes_hw=[(8, 8)], image_ids=[1])
    sleepers = [Sleeper(name, ticks, clock, order) for name, ticks in (("none", 0.25), ("arm", 0.5), ("other", 0.75))]
    sides = [Side(distiller=s, optimizer=AdamW(s.parameters(), lr=1.0), batches=[batch]) for s in sleepers]  # type: ignore[arg-type]
    none, arm, other = seconds_in_turns(sides, Engine())
    assert order[:9] == ["none", "arm", "other"] * 2 + ["other", "arm", "none"]  # warm-up, first turn, second
    assert (none, arm, other) == (0.25 * 4, 0.5 * 4, 0.75 * 4)  # of turns that took 2, 3, 4, 5 and 6 times as long
    assert all(float(s.weight.detach()) == 1 for s in sleepers)


def test_the_calibration_of_auto_is_no_part_of_a_steps_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run has it in 20 of 500 batches; in the first ones, which are timed, it would double the backward passes."""
    pair = distiller(structural("auto"))
    calibrated: list[int] = []
    original = pair.criterion.measured  # type: ignore[union-attr]
    monkeypatch.setattr(pair.criterion, "measured", lambda *given: calibrated.append(1) or original(*given))
    optimizer = AdamW(pair.parameters(), lr=1e-3)
    before = state_of(pair)
    measure(pair, optimizer, [batch()], Engine(), average=False)
    assert len(calibrated) <= 3  # the loss, what it keeps, and the step before the clock runs
    assert same_state(before, state_of(pair))
