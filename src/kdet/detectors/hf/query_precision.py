"""Which parts of a set detector place its boxes, by the names that all of these libraries give them.

Boxes are fractions of the input there: in bfloat16 one step is 1/256 of it. Maps, attention and hidden layers stay as
autocast has them; only what reads or moves a reference point does not.
"""

import re
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn

from kdet.detectors.exact import computing_exactly, saying_exactly

_LAST_LAYER = re.compile(r"((enc|dec|pre|enc_out)_)?(class|score|bbox)_(embed|head|labels_classifier|predictor)")
"""Heads, on all cells of the maps too: what lies before their last layer may be rounded, relative as it is."""
_WHOLE = {"reference_points", "ref_point_head", "query_pos_head", "integral"}
"""They read or give points, a few numbers a query."""
_MAPS = re.compile(r"(model\.)?((decoder_)?input_proj\.\d+|backbone\.projector)")
"""Paths; the precision of their outputs is that in which anchors, valid ratios and reference points are laid."""


@contextmanager
def exact_boxes(model: nn.Module) -> Generator[None]:
    """Keep anchors, reference points, boxes and logits of a set detector in float32 while the context is open."""
    device = next(model.parameters()).device.type
    if not torch.is_autocast_enabled(device):
        yield
        return
    heads: list[nn.Module] = []
    maps: list[nn.Module] = []
    for path, module in model.named_modules():
        name = re.sub(r"(\.\d+)+$", "", path).rpartition(".")[2]
        if name in _WHOLE:
            heads.append(module)
        elif _MAPS.fullmatch(path):
            maps.append(module)
        elif _LAST_LAYER.fullmatch(name):
            heads.extend([inner for inner in module.modules() if isinstance(inner, nn.Linear)][-1:])
    with saying_exactly(maps), computing_exactly(heads):
        yield
