"""What the decoder of a set detector says of another one's queries, over the image that it has just seen.

Legend: N images, Q queries, D width of the decoder, L cells of all levels, K class columns.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Given = Mapping[str, Any]
"""The decoder's arguments by name."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How the decoder of a model type is asked, and how its heads read it."""

    names: tuple[str, ...]
    """The decoder's arguments that are queries, N×Q×…; all others are of the image."""
    read: Callable[[Any, Given, Any], tuple[Tensor, Tensor]]
    """Model, the decoder's arguments and what it returned → logits N×Q×K, boxes N×Q×4 (centre and size, fractions)."""
    by_cells: bool = False
    """A query begins with what the encoder says at one cell, each model with what its own says there."""


@dataclass
class Heard:
    """What went into the decoder in one pass."""

    given: dict[str, Any] = field(default_factory=dict[str, Any])
    memory: list[Tensor] = field(default_factory=list[Tensor])
    """N×L×D, of a decoder that begins with cells."""


def asking_of(config: Any, asking: Asking | None) -> Asking | None:
    """None of a model that begins with queries of its own in place of what the encoder says at a cell."""
    learned = asking is not None and asking.by_cells and getattr(config, "learn_initial_query", False)
    return None if learned else asking


def query_form(config: Any, asking: Asking | None) -> str:
    """Return what a query is, in words."""
    if asking is None:
        return "queries of its own"
    if asking.by_cells:
        return f"cells of {config.num_feature_levels} levels with a box each"
    kind = "boxes" if asking is BY_BOXES else "embeddings"
    stages = " in two stages" if getattr(config, "two_stage", False) else ""
    return f"{kind} of a {config.model_type}{stages}, {config.hidden_size} wide"


@contextmanager
def listening(model: nn.Module, asking: Asking | None) -> Generator[Heard]:
    """Yield what the next pass gives to the decoder; the hooks are gone afterwards. None hears nothing."""
    heard = Heard()

    def at_decoder(_: nn.Module, given: Any, named: dict[str, Any]) -> None:
        heard.given.update(named)

    def at_cells(_: nn.Module, given: Any, output: Tensor) -> None:
        heard.memory.append(output)

    hooks = []
    if asking is not None:
        hooks.append(model.get_submodule("model.decoder").register_forward_pre_hook(at_decoder, with_kwargs=True))
        if asking.by_cells:
            hooks.append(model.get_submodule("model.enc_output").register_forward_hook(at_cells))
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def own_queries_of(asking: Asking, heard: Heard, output: Any, num_queries: int) -> dict[str, Tensor]:
    """Return the queries that the model itself asked, without those of its training; by name, N×Q×…"""
    queries = {name: heard.given[name][:, -num_queries:].detach() for name in asking.names}
    if asking.by_cells:
        queries["cells"] = output["enc_outputs_class"].amax(-1).topk(num_queries, dim=1).indices
    return queries


def answered(model: Any, asking: Asking, heard: Heard, queries: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Run the decoder alone on these queries: logits N×Q×K and boxes N×Q×4 (centre and size, fractions)."""
    given = {**heard.given, **{name: queries[name] for name in asking.names}}
    if asking.by_cells:
        memory_NLD = heard.memory[0].detach()
        index_NQD = queries["cells"][..., None].expand(-1, -1, memory_NLD.shape[2])
        given |= {"inputs_embeds": memory_NLD.gather(1, index_NQD), "encoder_attention_mask": None}
    return asking.read(model, given, model.model.decoder(**given))


def _read_decoder(model: Any, given: Given, said: Any) -> tuple[Tensor, Tensor]:
    """RT-DETR: the heads are the decoder's."""
    return said.intermediate_logits[:, -1], said.intermediate_reference_points[:, -1]


def _read_detr(model: Any, given: Given, said: Any) -> tuple[Tensor, Tensor]:
    hidden = said.last_hidden_state
    return model.class_labels_classifier(hidden), model.bbox_predictor(hidden).sigmoid()


def _read_conditional(model: Any, given: Given, said: Any) -> tuple[Tensor, Tensor]:
    hidden, reference = said.last_hidden_state, said.reference_points.transpose(0, 1)
    return model.class_labels_classifier(hidden), _refined(model.bbox_predictor(hidden), reference)


def _read_deformable(model: Any, given: Given, said: Any) -> tuple[Tensor, Tensor]:
    hidden, references = said.intermediate_hidden_states[:, -1], said.intermediate_reference_points
    before = references[:, -2] if references.shape[1] > 1 else given["reference_points"]
    return model.class_embed[-1](hidden), _refined(model.bbox_embed[-1](hidden), before)


def _read_dab(model: Any, given: Given, said: Any) -> tuple[Tensor, Tensor]:
    hidden = said.intermediate_hidden_states[-1]
    return model.class_embed(hidden), _refined(model.bbox_predictor(hidden), said.reference_points[-1])


def _refined(offsets: Tensor, reference: Tensor) -> Tensor:
    """Boxes from offsets to a reference point or box, both before the sigmoid."""
    logits = torch.logit(reference, eps=1e-5)
    return (offsets + F.pad(logits, (0, offsets.shape[-1] - logits.shape[-1]))).sigmoid()


_EMBEDDED = ("inputs_embeds", "object_queries_position_embeddings")
_PLACED = ("inputs_embeds", "query_position_embeddings")
BY_CELLS = Asking(names=("reference_points",), read=_read_decoder, by_cells=True)
BY_EMBEDDINGS = Asking(names=_EMBEDDED, read=_read_detr)
CONDITIONAL = Asking(names=_EMBEDDED, read=_read_conditional)
DEFORMABLE = Asking(names=(*_EMBEDDED, "reference_points"), read=_read_deformable)
TABLE = Asking(names=_PLACED, read=_read_detr)
BY_BOXES = Asking(names=_PLACED, read=_read_dab)
