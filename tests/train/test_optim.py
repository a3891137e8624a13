"""What the optimizer does to which tensor, by numbers: decay, learning rate, clipping, the moving average."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from train_cases import distilled, recipe_of, records, run

import kdet
from detectors.hooked_cases import Custom, losses
from fakes import CLASSES, DETECTOR_NAMES, batch_for, tiny
from kdet.detectors import backbone_parameters, usual_backbone_lr
from kdet.distill import METHODS, Distiller
from kdet.errors import InputError
from kdet.train.optim import backbone_lr, describe_groups, make_optimizer, moving_average, parameter_groups
from kdet.train.processes.engine import Engine
from kdet.train.recipe.schema import Recipe, TrainRecipe
from kdet.types import Detector
from yolo_fakes import yolo

LR, DECAY = 0.1, 0.5


class EveryKind(Custom):
    """Beside what Custom has: all kinds of tensors that do not decay, and two that do."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(2, 8), nn.LayerNorm([8, 4, 4]), nn.RMSNorm([8, 4]), nn.LayerNorm(8)])
        self.scale = nn.Parameter(torch.ones(()))
        self.layer_scale = nn.Parameter(torch.ones(8))
        self.cls_token = nn.Parameter(torch.ones(1, 1, 8))
        self.position_embeddings = nn.Parameter(torch.ones(1, 5, 8))
        self.relative_position_bias_table = nn.Parameter(torch.ones(9, 2))
        self.attention = nn.MultiheadAttention(8, 2, add_bias_kv=True)
        self.queries = nn.Embedding(5, 8)


DECAYING = {
    *("stem.0.weight", "neck.down.0.weight", "neck.down.1.weight", "head.weight", "spare.weight"),
    *("attention.in_proj_weight", "attention.out_proj.weight", "queries.weight"),
}


def hooked(model: nn.Module) -> Detector:
    options = {"features": ["neck[p3]"], "strides": [8], "losses": losses}
    return kdet.wrap(model, CLASSES, forward=lambda module, images: module(images), **options)


def groups_of(detector: Detector, factor: float = 0.1, **settings: Any) -> list[dict[str, Any]]:
    return parameter_groups(Distiller(detector), TrainRecipe(lr=LR, weight_decay=DECAY, **settings), factor)


def names_in(model: nn.Module, groups: list[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]) -> set[str]:
    own = {id(p) for group in groups if wanted(group) for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in own}


def test_norms_biases_scales_and_tokens_do_not_decay() -> None:
    model = EveryKind()
    assert names_in(model, groups_of(hooked(model)), lambda group: group["weight_decay"] == DECAY) == DECAYING


def bodies() -> dict[str, tuple[Callable[[], Detector], Callable[[Any], list[nn.Module]]]]:
    """A detector of each family, and where its library keeps the backbone."""
    found: dict[str, Any] = {}
    for name in DETECTOR_NAMES:
        own = (lambda m: [m.backbone.features]) if name == "ssdlite" else (lambda m: [m.backbone.body])
        found[name] = (lambda name=name: tiny(name), own)
    found["yolo"] = (described_yolo, lambda m: [m.model[0], m.model[1]])
    found["by taps"] = (lambda: hooked(Custom()), lambda m: [])
    try:
        from detr_fakes import CONFIGS, tiny_detr
    except (ImportError, pytest.skip.Exception):
        return found
    for kind in CONFIGS:
        inner = "conv_encoder.model" if kind == "deimv2" else "backbone"
        inner = "backbone.backbone" if kind in ("rf_detr", "lw_detr") else inner
        found[kind] = (
            lambda kind=kind: tiny_detr(kind),
            lambda m, inner=inner: [m.model.get_submodule(inner)],
        )
    return found


def described_yolo() -> Detector:
    """As ultralytics keeps the description of its models: two of the three layers before the head are the backbone."""
    model: Any = yolo()
    model.yaml = {"backbone": [[-1, 1, "Conv", []]] * 2, "head": [[-1, 1, "Conv", []]] * 2}
    return kdet.wrap(model, CLASSES)


FAMILIES = bodies()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_trained_tensor_is_in_one_group_and_the_backbones_are_those_of_the_library(family: str) -> None:
    build, body = FAMILIES[family]
    detector = build()
    groups = groups_of(detector)
    held = [id(p) for group in groups for p in group["params"]]
    trained = [p for p in detector.model.parameters() if p.requires_grad]
    assert sorted(held) == sorted(map(id, trained))
    inside = {id(p) for module in body(detector.model) for p in module.parameters()}
    assert {id(p) for p in backbone_parameters(detector)} == inside
    slow = {id(p) for group in groups if group["lr"] == LR * 0.1 for p in group["params"]}
    assert slow == {id(p) for p in trained} & inside and bool(slow) == (family != "by taps")
    for group in groups:  # what the rule comes to in models without tokens and layer norms over maps
        assert all(
            (p.dim() > 1) == (group["weight_decay"] > 0) or family in ("rf_detr", "lw_detr") for p in group["params"]
        )


def test_a_step_without_a_gradient_shrinks_what_decays_at_the_rate_of_its_group() -> None:
    """AdamW: w ← w (1 − lr · factor · decay)."""
    detector = tiny(norm="group")
    before = {name: p.detach().clone() for name, p in detector.model.named_parameters()}
    recipe = recipe_of(train={"optimizer": "adamw", "lr": LR, "weight_decay": DECAY, "backbone_lr": 0.2})
    optimizer = make_optimizer(Distiller(detector), recipe)
    for parameter in detector.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    left = {"backbone.body.layer1.0.conv1.weight": 0.99, "backbone.fpn.layer_blocks.0.0.weight": 0.95}
    left |= {"backbone.body.layer1.0.bn1.weight": 1.0, "head.classification_head.cls_logits.bias": 1.0}
    for name, share in left.items():
        torch.testing.assert_close(detector.model.get_parameter(name), before[name] * share, msg=name)


def test_adapters_decay_only_where_the_recipe_says_so() -> None:
    def distiller() -> Distiller:
        return Distiller(tiny(), tiny(fpn_channels=64, seed=3), METHODS["mgd"].terms(weight=1.0))

    for wanted, expected in ((0.0, {0.0}), (0.3, {0.0, 0.3})):
        own = distiller()
        groups = parameter_groups(own, TrainRecipe(weight_decay=DECAY, adapter_weight_decay=wanted), 1.0)
        apart = [group for group in groups if group["name"] == "adapters"]
        assert {group["weight_decay"] for group in apart} == expected
        assert own.criterion is not None
        assert sum(len(group["params"]) for group in apart) == len(list(own.criterion.parameters()))


def test_the_usual_factor_is_that_of_the_family_and_only_for_pretrained_backbones(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from detr_fakes import config_of, tiny_detr

    detr = tiny_detr("rt_detr")
    assert (usual_backbone_lr(detr), usual_backbone_lr(tiny("fcos"))) == (0.1, 1.0)
    student: dict[str, Any] = {"detector": "hf", "config": config_of("rt_detr")}
    factors = {
        backbone_lr(Distiller(detr), Recipe.model_validate({**recipe_of().model_dump(), "student": student | more}))
        for more in ({}, {"config": None, "weights": str(tmp_path)})
    }
    assert factors == {1.0, 0.1}
    given = recipe_of(train={"backbone_lr": 0.3})
    assert backbone_lr(Distiller(detr), given) == 0.3


def test_sgd_has_nesterovs_momentum_as_the_students_library_has_it_unless_the_recipe_says() -> None:
    """After one step with gradient g: g + 0.9 g = 1.9 g with Nesterov's momentum, g without."""

    def moved(detector: Any, **train: Any) -> float:
        optimizer = make_optimizer(Distiller(detector), recipe_of(train={"optimizer": "sgd", "lr": 1.0, **train}))
        parameter = next(p for group in optimizer.param_groups if not group["weight_decay"] for p in group["params"])
        before = parameter.detach().clone()
        for group in optimizer.param_groups:
            for own in group["params"]:
                own.grad = torch.full_like(own, 0.5)
        optimizer.step()
        return float((before - parameter.detach()).mean())

    assert moved(tiny("fcos")) == pytest.approx(0.5)
    assert moved(kdet.wrap(yolo(), CLASSES)) == pytest.approx(0.95)
    assert moved(tiny("fcos"), nesterov=True) == pytest.approx(0.95)
    assert moved(kdet.wrap(yolo(), CLASSES), nesterov=False) == pytest.approx(0.5)


def test_a_factor_for_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(InputError, match=r"backbone_lr: kdet does not know which part of a Custom is its backbone"):
        make_optimizer(Distiller(hooked(Custom())), recipe_of(train={"backbone_lr": 0.1}))


def test_a_schedule_scales_each_group_by_its_factor_and_the_log_says_which_there_are(tmp_path: Path) -> None:
    run(recipe_of(train={"lr_schedule": "step", "backbone_lr": 0.25, "epochs": 1}), tmp_path / "run")
    saved = torch.load(tmp_path / "run" / "last" / "optimizer.pt", weights_only=True)["param_groups"]
    assert {group["name"]: group["lr"] for group in saved} == {"backbone": 0.00025, "neck and head": 0.001}
    assert all(record["lr"] == 0.001 for record in records(tmp_path / "run", "step"))
    line = next(r["text"] for r in records(tmp_path / "run", "note") if r["text"].startswith("optimizer: "))
    counts = {group["name"]: len(group["params"]) for group in saved if group["weight_decay"]}
    assert f"backbone {counts['backbone']} tensors, lr ×0.25, decay 0.0001" in line


def test_a_state_with_other_groups_is_refused_in_one_line(tmp_path: Path) -> None:
    """A run of a version that had one group."""
    recipe = recipe_of(train={"epochs": 1})
    run(recipe, tmp_path / "run")
    path = tmp_path / "run" / "last" / "optimizer.pt"
    saved = torch.load(path, weights_only=True)
    count = sum(len(group["params"]) for group in saved["param_groups"])
    one = {k: v for k, v in saved["param_groups"][0].items() if k not in ("name", "factor")}
    torch.save({**saved, "param_groups": [one | {"params": list(range(count))}]}, path)
    expected = rf"1 group of {count} tensors, this run's 4 groups of .*another version of kdet saved it"
    with pytest.raises(InputError, match=expected) as caught:
        run(recipe, tmp_path / "run", resume=True)
    assert "\n" not in str(caught.value)


def test_clipping_takes_the_student_and_what_is_learned_beside_it_one_by_one() -> None:
    distiller = Distiller(tiny(), tiny(fpn_channels=64, seed=3), METHODS["structural"].terms(weight=1.0))
    assert distiller.criterion is not None
    for module, norm in ((distiller.model, 3.0), (distiller.criterion, 4000.0)):
        own = [p for p in module.parameters() if p.requires_grad]
        for parameter in own:
            parameter.grad = torch.full_like(parameter, norm / math.sqrt(sum(p.numel() for p in own)))
    found = Engine().clip(distiller.clipped_apart, 1.5)
    assert found == pytest.approx(math.hypot(3.0, 4000.0), rel=1e-4)
    for module in (distiller.model, distiller.criterion):
        assert norm_of(module) == pytest.approx(1.5, rel=1e-4)


def norm_of(module: nn.Module) -> float:
    return math.sqrt(sum(float(p.grad.double().square().sum()) for p in module.parameters() if p.grad is not None))


def test_mgds_generator_does_not_shrink_the_students_step() -> None:
    """Clipped together, the student would be left with `limit · student / √(student² + beside²)`, a twentieth less."""
    distiller = Distiller(tiny(), tiny(fpn_channels=64, seed=3), METHODS["mgd"].terms(weight=0.01)).train()
    assert distiller.criterion is not None
    distiller(batch_for(distiller.student)).total.backward()
    student, beside = norm_of(distiller.model), norm_of(distiller.criterion)
    assert math.hypot(student, beside) > 1.05 * student
    limit = student / 2
    Engine().clip(distiller.clipped_apart, limit)
    assert norm_of(distiller.model) == pytest.approx(limit, rel=1e-4)


def test_without_a_limit_nothing_is_scaled() -> None:
    distiller = Distiller(tiny()).train()
    distiller(batch_for(distiller.student)).total.backward()
    before = norm_of(distiller.model)
    assert Engine().clip(distiller.clipped_apart, None) == pytest.approx(before, rel=1e-5)
    assert norm_of(distiller.model) == before


class Averaged(nn.Module):
    """A weight, and the buffers of batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
        self.register_buffer("mean", torch.ones(1, dtype=torch.float64))
        self.register_buffer("batches", torch.tensor(0))
        self.register_buffer("seen", torch.tensor(False))


@pytest.mark.parametrize(("decay", "updates"), [(0.999, 288), (0.9, 50), (0.999, 11000), (0.999, 1)])
def test_the_first_state_has_the_share_that_the_ramp_leaves_it(decay: float, updates: int) -> None:
    """One in the first update and nothing since: what is left is the product of the decays, by logarithms here."""
    model = Averaged()
    average = AveragedModel(model, multi_avg_fn=moving_average(decay), use_buffers=True)
    buffers: dict[str, Tensor] = dict(model.named_buffers())
    for update in range(updates):
        if update == 1:
            nn.init.zeros_(model.weight)
            buffers["mean"].zero_()
        buffers["batches"].add_(1)
        buffers["seen"].fill_(True)
        average.update_parameters(model)
    shares = [min(math.log(decay), math.log1p(-((1 + n) ** -0.75))) for n in range(1, updates)]
    expected = math.exp(math.fsum(shares))
    assert average.module.weight.item() == pytest.approx(expected, rel=1e-6, abs=1e-300)
    assert average.module.mean.item() == pytest.approx(expected, rel=1e-6, abs=1e-300)
    assert int(average.module.batches) == updates and bool(average.module.seen)
    if updates == 288:
        assert expected < 1e-5  # 0.75 without a ramp


def test_the_average_spans_a_share_of_short_runs_and_the_wanted_decay_in_long_ones() -> None:
    """Of a weight that counts its updates the average lags behind by its span: n^(3/4), at last 1 / (1 − decay)."""
    lags = {}
    model = nn.Linear(1, 1, bias=False).double()
    average = AveragedModel(model, multi_avg_fn=moving_average(0.999), use_buffers=True)
    for update in range(1, 12001):
        nn.init.constant_(model.weight, update)
        average.update_parameters(model)
        lags[update] = update - average.module.weight.item()
    assert 0.1 * 288 < lags[288] < 0.4 * 288
    assert lags[12000] == pytest.approx(999, rel=0.02)


def test_an_average_belongs_to_the_state_so_that_its_ramp_goes_on(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    run(distilled(tmp_path, train={"ema": 0.999}), tmp_path / "run")
    assert int(load_file(tmp_path / "run" / "last" / "average.safetensors")["n_averaged"]) == 4


def test_the_line_names_every_group() -> None:
    student = tiny()
    optimizer = make_optimizer(Distiller(student), recipe_of(train={"weight_decay": 0.05}))
    assert describe_groups(optimizer, student.model).count("tensors") == len(optimizer.param_groups) == 4
