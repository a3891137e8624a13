"""In what the families of dense detectors differ, as data.

Legend: A anchors of all levels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kdet.detectors.plain.towers import rows
from kdet.ops.selection import Selection
from kdet.types import Need

_DENSE = frozenset(
    {
        Need.FEATURES,
        Need.CLASS_LOGITS,
        Need.BOXES,
        Need.ASSIGNMENT,
        Need.LOSSES,
        Need.HEAD_FEATURES,
    }
)


@dataclass(frozen=True, kw_only=True)
class DenseFamily:
    """One family; models come as Any, since torchvision's attributes carry no types."""

    name: str
    """Name in a recipe's `detector:`."""
    decode: Callable[[Any, Tensor, Tensor], Tensor]
    """The model, its regression and anchors of one image, A×4 each → boxes A×4."""
    predict_boxes: Callable[[Any, Sequence[Tensor]], dict[str, Tensor]]
    """The regression head and maps that have all its hidden layers behind them → its outputs."""
    selection: Callable[[Any], Selection]
    """The model → how it makes detections of what it scores."""
    loss_takes_cells: bool = True
    """Whether `compute_loss` is also given the number of anchors of each level."""
    provides: frozenset[Need] = _DENSE


def _decode_retinanet(model: Any, regression: Tensor, anchors: Tensor) -> Tensor:
    return model.box_coder.decode_single(regression, anchors)


def _decode_fcos(model: Any, regression: Tensor, anchors: Tensor) -> Tensor:
    return model.box_coder.decode(regression, anchors)


def _decode_own(model: Any, regression: Tensor, anchors: Tensor) -> Tensor:
    return model.decode(regression, anchors)


def _predict_retinanet(head: Any, maps: Sequence[Tensor]) -> dict[str, Tensor]:
    return {"bbox_regression": rows([head.bbox_reg(m) for m in maps], 4)}


def _predict_fcos(head: Any, maps: Sequence[Tensor]) -> dict[str, Tensor]:
    return {
        "bbox_regression": rows([head.bbox_reg(m) for m in maps], 4).relu(),  # torchvision does it inside the head
        "bbox_ctrness": rows([head.bbox_ctrness(m) for m in maps], 1),
    }


def _select_torchvision(model: Any) -> Selection:
    return Selection(
        score=model.score_thresh,
        best=model.topk_candidates,
        group="level",
        nms_iou=model.nms_thresh,
        detections=model.detections_per_img,
    )


def _select_own(model: Any) -> Selection:
    own = model.limits
    return Selection(
        score=own.score, best=own.candidates, group="level", nms_iou=own.nms_iou, detections=own.detections
    )


def _predict_own(head: Any, maps: Sequence[Tensor]) -> dict[str, Tensor]:
    return head.predict(maps)


RETINANET = DenseFamily(
    name="retinanet",
    decode=_decode_retinanet,
    predict_boxes=_predict_retinanet,
    selection=_select_torchvision,
    loss_takes_cells=False,
)
FCOS = DenseFamily(name="fcos", decode=_decode_fcos, predict_boxes=_predict_fcos, selection=_select_torchvision)
ATSS = DenseFamily(name="atss", decode=_decode_own, predict_boxes=_predict_own, selection=_select_own)
GFL = DenseFamily(
    name="gfl",
    decode=_decode_own,
    predict_boxes=_predict_own,
    selection=_select_own,
    provides=_DENSE | {Need.EDGE_LOGITS},
)
