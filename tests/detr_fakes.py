"""The smallest models of every type of transformers that kdet reads: random weights, 0.06 to 0.25 M parameters."""

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch

from fakes import CLASSES, images_and_targets
from kdet.detectors import build
from kdet.types import Batch, Detector, Target

pytest.importorskip("transformers", reason="detector hf needs Hugging Face transformers: pip install 'kdet[hf]'")

SIZES = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
THREE = {"out_features": ["stage2", "stage3", "stage4"]}
RT_RESNET = {"model_type": "rt_detr_resnet", "layer_type": "basic", **SIZES, **THREE}
RESNET = {"model_type": "resnet", "layer_type": "basic", **SIZES, "out_features": ["stage4"]}
HGNET = {
    "model_type": "hgnet_v2",
    **SIZES,
    **THREE,
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 8, 16, 24],
    "stage_mid_channels": [8, 8, 8, 8],
    "stage_out_channels": [8, 16, 24, 32],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_numb_of_layers": [2, 2, 2, 2],
}
VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "patch_size": 16}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
FEED = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
RT: dict[str, Any] = {
    "backbone_config": RT_RESNET,
    "encoder_in_channels": [16, 24, 32],
    "encoder_hidden_dim": 32,
    "d_model": 32,
    "decoder_in_channels": [32, 32, 32],
    "decoder_layers": 2,
    "decoder_n_points": 2,
    "num_queries": 20,
    "num_denoising": 10,
    **HEADS,
    **FEED,
}
ONE: dict[str, Any] = {
    "backbone_config": RESNET,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_queries": 20,
    **HEADS,
    **FEED,
}
WINDOWED: dict[str, Any] = {
    "d_model": 32,
    "decoder_ffn_dim": 32,
    "decoder_layers": 2,
    "decoder_self_attention_heads": 2,
    "decoder_cross_attention_heads": 2,
    "decoder_n_points": 2,
    "num_queries": 8,
    "group_detr": 2,
    "c2f_num_blocks": 1,
    "dropout": 0.0,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "rt_detr": RT,
    "rt_detr_v2": RT,
    "d_fine": {**RT, "backbone_config": HGNET},
    "deimv2": {**RT, "backbone_config": HGNET},
    "deformable_detr": {**ONE, "backbone_config": {**RESNET, **THREE}, "encoder_n_points": 2, "decoder_n_points": 2},
    "rf_detr": {
        **WINDOWED,
        "backbone_config": {
            "model_type": "rf_detr_dinov2",
            **VIT,
            "num_windows": 2,
            "window_block_indexes": [0],
            "out_indices": [1, 2],
        },
    },
    "lw_detr": {
        **WINDOWED,
        "backbone_config": {
            "model_type": "lw_detr_vit",
            **VIT,
            "pretrain_image_size": 64,
            "num_windows": 4,
            "num_windows_side": 2,
            "window_block_indices": [0],
            "out_indices": [1, 2],
        },
        "projector_scale_factors": [1.0],
        "projector_out_channels": 32,
    },
    "conditional_detr": ONE,
    "dab-detr": {**{key: value for key, value in ONE.items() if key != "d_model"}, "hidden_size": 32},
    "detr": ONE,
    "table-transformer": ONE,
}
STRIDES = {
    **dict.fromkeys(("rt_detr", "rt_detr_v2", "d_fine", "deimv2"), (8, 16, 32)),
    "deformable_detr": (8, 16, 32, 64),
    **dict.fromkeys(("rf_detr", "lw_detr"), (16,)),
    **dict.fromkeys(("conditional_detr", "dab-detr", "detr", "table-transformer"), (32,)),
}
every_type = pytest.mark.parametrize("kind", CONFIGS)


def config_of(kind: str = "rt_detr", **changes: Any) -> dict[str, Any]:
    """What a recipe's `config:` says."""
    return {"model_type": kind, **CONFIGS[kind], **changes}


def tiny_detr(kind: str = "rt_detr", **options: Any) -> Any:
    """A detector of this type; another `seed`, other weights; what is no argument of `_built` changes its config."""
    if options:
        return _built(kind, **options)
    return copy.deepcopy(_plain(kind))


@cache
def _plain(kind: str) -> Any:
    return _built(kind)


def _built(kind: str, *, classes: Sequence[str] = CLASSES, seed: int = 0, size: int = 96, **changes: Any) -> Any:
    torch.manual_seed(seed)
    detector = build("hf", classes=classes, config=config_of(kind, **changes), image_size=size)
    with torch.no_grad():  # scores that differ between queries and classes, as after some training
        for name, parameter in detector.model.named_parameters():
            if "class_embed" in name or "class_labels_classifier" in name or "enc_score_head" in name:
                parameter.copy_(torch.randn_like(parameter) / 4 if parameter.ndim == 2 else torch.zeros_like(parameter))
    return detector


def shared_batch(detector: Detector) -> Batch:
    """Three images of different sizes; the second holds no object. Labels are columns: 0 is the first class."""
    images, targets = images_and_targets()
    lowered = [Target(boxes=target["boxes"], labels=target["labels"] - 1) for target in targets]
    return detector.batch(images, lowered)
