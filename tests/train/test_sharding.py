"""`train: {shard: true}` over gloo: each of two processes holds its part, and the result is that of DDP."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from process_cases import close, found_by_both, free_port, join, leave, recipe, torchrun
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer
from train_cases import records, run

from fakes import images_and_targets, tiny
from kdet.distill import METHODS, Distiller
from kdet.distill.criterion import Criterion
from kdet.distill.preflight.proof import buffers_kept
from kdet.errors import InputError
from kdet.train.optim import parameter_groups
from kdet.train.processes.engine import Engine
from kdet.train.recipe.schema import TrainRecipe
from kdet.types import Batch

STEPS = ((0, False), (1, True), (2, True))
"""Images of the two processes' batches begin here, and whether the batch ends an optimizer step."""
KINDS = {"ddp": False, "shard": True}


def distiller() -> Distiller:
    """With parameters that have no dimensions, and with batch statistics."""
    student = tiny("gfl")
    teacher = tiny(fpn_channels=64, seed=3)
    torch.manual_seed(4)  # of adapters
    return Distiller(student, teacher, METHODS["structural"].terms(weight=1.0)).train()


def trained(rank: int, *, shard: bool) -> dict[str, Any]:
    """Two steps of an optimizer that is smooth around 0, so that rounding stays small; what came of it."""
    inner, engine = distiller(), Engine(shard=shard)
    groups = parameter_groups(inner, TrainRecipe(lr=1e-2, weight_decay=0.01), 0.5)
    wanted = torch.optim.AdamW(groups, lr=1e-2, eps=1e-2, foreach=True)
    module, optimizer = engine.prepare(inner, wanted)
    engine.divide(module, optimizer)
    norms: list[float] = []
    batch = inner.student.batch(*images_and_targets())
    if shard:
        with buffers_kept(inner):
            leave_out(engine, module, optimizer, batch, refused=rank == 0)
    for first, updates in STEPS:
        with engine.step(module, updates=updates):
            engine.backward(module(batch.only([(first + rank) % 3]), measure=updates).total)
            if updates:
                norms.append(engine.clip(inner.clipped_apart, 0.5))
                optimizer.step()
            optimizer.zero_grad()
    held = [local(p).numel() for p in inner.parameters()]
    moments = [local(value).numel() for slots in optimizer.state.values() for value in slots.values()]
    state = engine.gathered(optimizer.state_dict(), everywhere=True)
    with engine.whole():
        weights = {name: p.detach().clone() for name, p in inner.named_parameters()}
        assert all(type(p) is nn.Parameter for p in inner.parameters())
    engine.share_buffers(inner)
    buffers = {name: buffer.clone() for name, buffer in inner.named_buffers()}
    return {
        "norms": norms,
        "held": sum(held),
        "moments": sum(moments),
        "state": state,
        "weights": weights,
        "buffers": buffers,
    }


def leave_out(engine: Engine, module: nn.Module, optimizer: Optimizer, batch: Batch, *, refused: bool) -> None:
    """A step whose loss one process refuses, while gradients of the batch before it wait: nothing may remain of it."""
    with engine.step(module, updates=False):
        engine.backward(module(batch.only([0])).total)
    with engine.step(module, updates=True), pytest.MonkeyPatch.context() as patch:
        if refused:
            patch.setattr(Criterion, "forward", refuse)  # after what the losses ask of the other processes
        with pytest.raises(ValueError, match="not finite") if refused else nullcontext():
            module(batch.only([2]))
        engine.leave_out(module)
        optimizer.zero_grad()


def refuse(*_: Any) -> None:
    raise ValueError("not finite")


def local(tensor: Tensor) -> Tensor:
    """What this process holds of it."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def process(rank: int, folder: Path, port: int) -> None:
    join(rank, port)
    found = {kind: trained(rank, shard=shard) for kind, shard in KINDS.items()}
    leave(rank, folder, found)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the two processes found."""
    return found_by_both(process, tmp_path_factory.mktemp("two"), free_port())


@pytest.mark.long
def test_weights_norms_and_optimizer_state_are_those_of_ddp(two: list[dict[str, Any]]) -> None:
    whole, parts = (two[0][kind] for kind in KINDS)
    assert parts["norms"] == pytest.approx(whole["norms"], rel=1e-4) and min(parts["norms"]) > 0.5
    start = {name: p.detach() for name, p in distiller().named_parameters()}
    assert any(p.dim() == 0 for p in start.values())
    for name, tensor in whole["weights"].items():
        assert torch.equal(two[0]["shard"]["weights"][name], two[1]["shard"]["weights"][name])
        close(parts["weights"][name] - start[name], tensor - start[name], name)
    assert parts["state"]["param_groups"] == whole["state"]["param_groups"]
    assert parts["state"]["state"].keys() == whole["state"]["state"].keys()
    for index, slots in whole["state"]["state"].items():
        for slot, value in slots.items():
            assert type(parts["state"]["state"][index][slot]) is Tensor
            close(parts["state"]["state"][index][slot], value, f"{slot} of {index}")


@pytest.mark.long
def test_between_steps_each_process_holds_about_half(two: list[dict[str, Any]]) -> None:
    for found in two:
        for what in ("held", "moments"):
            assert 0.4 < found["shard"][what] / found["ddp"][what] < 0.6
    for what in ("held", "moments"):
        assert sum(found["shard"][what] for found in two) < 1.01 * two[0]["ddp"][what]


@pytest.mark.long
def test_batch_statistics_of_the_first_process_are_evaluated_in_all(two: list[dict[str, Any]]) -> None:
    first, second = (found["shard"]["buffers"] for found in two)
    for name, buffer in first.items():
        assert torch.equal(second[name], buffer)
        close(buffer, two[0]["ddp"]["buffers"][name], name)


@pytest.mark.long
def test_a_run_is_that_of_one_process_and_goes_on_with_shard_and_alone_without(tmp_path: Path) -> None:
    """The weights have batch statistics nowhere, so that one process with both images is the same."""
    settings: dict[str, Any] = {"epochs": 2, "lr_schedule": "constant", "clip_norm": 1.0, "ema": 0.9}
    alone = recipe(tmp_path, **settings, max_steps=4, batch_size=2)
    run(alone, tmp_path / "alone")
    for steps in (2, 3):
        more = ["--resume"] if steps == 3 else []
        status, said = torchrun(recipe(tmp_path, **settings, max_steps=steps, shard=True), tmp_path, *more)
        assert status == 0, said
        assert ("distillation acts" in said) == (steps == 2)
    assert "resumed at step 2 of 3" in said
    assert run(alone, tmp_path / "run", resume=True).steps == 4
    for file in ("student-last", "last/trainables", "last/average"):
        ours, theirs = (load_file(tmp_path / name / f"{file}.safetensors") for name in ("run", "alone"))
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            close(ours[name], tensor, name)
    steps_of = [records(folder, "step") for folder in (tmp_path / "run", tmp_path / "alone")]
    for one, other in zip(*steps_of, strict=True):
        assert one["step"] == other["step"]
        assert all(one["parts"][term] > 0 for term in ("structural", "rank_mimicking"))
        assert one.keys() == other.keys() and one["parts"].keys() == other["parts"].keys()


def test_one_process_alone_has_nobody_to_divide_with(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.shard: .* torchrun"):
        run(recipe(tmp_path, shard=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_fp16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(InputError, match=r"train\.shard: fp16-mixed .* bf16-mixed"):
        Engine("fp16-mixed", shard=True)
