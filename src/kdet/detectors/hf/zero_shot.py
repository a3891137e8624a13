"""Detectors that find what a text says: Grounding DINO, OWL-ViT, OWLv2 and OmDet-Turbo of transformers.

They only label images (`kdet label`); nothing is distilled from them, for they have no class layer to pair.
Legend: Q queries, P prompts, T tokens, K classes, M objects.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

from kdet.detectors.hf.config import one_line
from kdet.errors import InputError
from kdet.types import Detections, SizeHW

Prompt = tuple[str, str]
"""A class and a text that says what it looks like; a class may have several."""

_SAME_IOU = 0.7
"""Two boxes of a class that overlap so much are one object, which two prompts or two queries have found."""


def read_prompts(text: str) -> tuple[Prompt, ...]:
    """`car: a car; bus: a bus; bus: a coach` → class and text of each.

    Raises:
        InputError: a part without class or text, one that stands twice, or none at all.
    """
    found: list[Prompt] = []
    for part in (part.strip() for part in text.split(";")):
        if not part:
            continue
        name, _, says = (side.strip() for side in part.partition(":"))
        if not name or not says:
            raise InputError(f"--prompt: {part!r} has no class or no text; write it as 'car: a car; bus: a bus'")
        if (name, says) in found:
            raise InputError(f"--prompt: {part!r} stands twice")
        found.append((name, says))
    if not found:
        raise InputError("--prompt: no class in it; write it as 'car: a car; bus: a bus'")
    return tuple(found)


class ZeroShotDetector:
    """One of these models with its processor and prompts."""

    def __init__(self, model: Any, processor: Any, prompts: Sequence[Prompt]) -> None:
        """Settle what is looked for.

        Raises:
            InputError: a prompt that the model cannot read.
        """
        self.model, self.processor = model.eval(), processor
        self.prompts = tuple(prompts)
        self.class_names = tuple(dict.fromkeys(name for name, _ in prompts))
        self.labels = torch.tensor([self.class_names.index(name) for name, _ in prompts])
        """Class of each prompt, P."""
        self._texts = [text for _, text in prompts]
        self._read = _READERS[model.config.model_type]
        _require_short(model, processor, self._texts)

    @torch.no_grad()
    def find(self, image: Tensor, least: float) -> Detections:
        """Objects on one image, best first; a query's score for a class is that of its best prompt.

        Args:
            image: 3×H×W uint8.
            least: score from which on boxes are kept.

        Returns:
            Boxes in pixels of the image, inside it; labels are indices into `class_names`.
        """
        size_hw = (int(image.shape[1]), int(image.shape[2]))
        picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
        scores_QP, boxes_Q4 = self._read(self.model, self.processor, picture, self._texts)
        of_class = (
            self.labels.to(scores_QP.device) == torch.arange(len(self.class_names), device=scores_QP.device)[:, None]
        )
        scores_QK = scores_QP[:, None].where(of_class, -math.inf).amax(-1)
        scores, labels = scores_QK.max(-1)
        boxes = _inside(boxes_Q4, size_hw)
        kept = (scores >= least) & (boxes[:, 2:] > boxes[:, :2]).all(-1)
        boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
        order = batched_nms(boxes, scores, labels, _SAME_IOU)
        return Detections(boxes=boxes[order], scores=scores[order], labels=labels[order])


def is_zero_shot(folder: Path) -> bool:
    """Whether the config.json of a folder is that of such a model."""
    return folder.is_dir() and (folder / "config.json").is_file() and _model_type(str(folder)) in _READERS


def open_zero_shot(weights: str, prompts: Sequence[Prompt], device: str) -> ZeroShotDetector:
    """Open a model of transformers by its folder or its name on the hub.

    Args:
        weights: a folder, or a name such as IDEA-Research/grounding-dino-tiny.
        prompts: what to look for.
        device: where the model stands.

    Raises:
        InputError: no such model within reach, of another kind, or prompts that it cannot read.
    """
    library = _library()
    kind = _model_type(weights)
    if kind not in _READERS:
        raise InputError(
            f"{weights}: a {kind} finds the classes that it was trained on, not what a prompt says; known are "
            f"{', '.join(_READERS)}. A trained one is labelled with by a recipe's `teacher: {{detector: hf, …}}`"
        )
    try:
        processor = library.AutoProcessor.from_pretrained(weights)
        model, about = library.AutoModelForZeroShotObjectDetection.from_pretrained(
            weights, output_loading_info=True, dtype="float32"
        )
    except Exception as error:  # whatever is missing or damaged in somebody's folder
        raise InputError(
            f"{weights}: cannot be loaded ({one_line(error)}); save it anew with save_pretrained"
        ) from None
    if about["missing_keys"]:
        missing = sorted(about["missing_keys"])
        raise InputError(
            f"{weights}: no tensor {missing[0]} for its own config.json ({len(missing)} missing); the two do not "
            "belong "
            "together, save both anew with save_pretrained"
        )
    return ZeroShotDetector(model.to(device), processor, prompts)


def _model_type(weights: str) -> str:
    try:
        return str(_library().AutoConfig.from_pretrained(weights).model_type)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{weights}: neither a folder with a config.json nor a model of the hub within reach ({one_line(error)}); "
            "name a run, a recipe or a weights file of kdet, or the folder of a zero-shot detector"
        ) from None


def _library() -> Any:
    try:
        import transformers
    except ImportError:
        raise InputError("zero-shot detectors need Hugging Face transformers: pip install 'kdet[hf]'") from None
    return transformers


def _require_short(model: Any, processor: Any, texts: Sequence[str]) -> None:
    """All that is said must reach the model: what is too long is cut off silently, or does not run."""
    tokenizer = processor.tokenizer
    if "grounding" in model.config.model_type:
        if marked := [text for text in texts if "." in text or "?" in text]:
            raise InputError(
                f"--prompt: {marked[0]!r}: this model takes . and ? for the end of a prompt; leave them out"
            )
        count, most = len(tokenizer(_merged(texts)).input_ids), int(model.config.max_text_len)
        if count > most:
            raise InputError(f"--prompt: {count} tokens, and the model reads {most}; leave out some, or label twice")
        return
    text_config = getattr(model.config, "text_config", model.config)
    most = min(int(tokenizer.model_max_length), int(getattr(text_config, "max_position_embeddings", 77)))
    for text in texts:
        if (count := len(tokenizer(text).input_ids)) > most:
            raise InputError(f"--prompt: {text!r} has {count} tokens, and the model reads {most}; say it shorter")


def _owl(model: Any, processor: Any, picture: Image.Image, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Scores Q×P and boxes Q×4 in pixels; OWLv2 pads the image to a square."""
    inputs = processor(images=picture, text=[list(texts)], return_tensors="pt").to(model.device)
    output = model(**inputs)
    width, height = picture.size
    if model.config.model_type == "owlv2":
        width = height = max(width, height)
    return output.logits[0].float().sigmoid(), _pixels(output.pred_boxes[0], (width, height))


def _omdet(model: Any, processor: Any, picture: Image.Image, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The same; the image is squeezed."""
    inputs = processor(images=picture, text=[list(texts)], return_tensors="pt").to(model.device)
    output = model(**inputs)
    scores = output.decoder_class_logits[0].float().sigmoid()[:, : len(texts)]
    return scores, _pixels(output.decoder_coord_logits[0], picture.size)


def _grounding_dino(model: Any, processor: Any, picture: Image.Image, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The same; a prompt's score is that of the best of its tokens, as the model's own threshold has it."""
    text = _merged(texts)
    inputs = processor(images=picture, text=text, return_tensors="pt").to(model.device)
    output = model(**inputs)
    of_tokens_QT = output.logits[0].float().sigmoid()
    ends = processor.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    columns: list[Tensor] = []
    first = 0
    for own in _merged(texts).removesuffix(".").split(". "):
        tokens = [t for t, (start, end) in enumerate(ends) if first <= start < end <= first + len(own)]
        columns.append(of_tokens_QT[:, tokens].amax(-1))
        first += len(own) + 2
    return torch.stack(columns, -1), _pixels(output.pred_boxes[0], picture.size)


def _merged(texts: Sequence[str]) -> str:
    """Join the texts as Grounding DINO was trained: small letters, a full stop behind each."""
    return ". ".join(text.strip().lower() for text in texts) + "."


def _pixels(boxes_Q4: Tensor, frame_wh: tuple[int, int]) -> Tensor:
    """Fractions of a frame, centre and size, as corners in pixels."""
    return box_convert(boxes_Q4.float(), "cxcywh", "xyxy") * boxes_Q4.new_tensor(frame_wh * 2, dtype=torch.float32)


def _inside(boxes_Q4: Tensor, size_hw: SizeHW) -> Tensor:
    height, width = size_hw
    return boxes_Q4.clamp_min(0).minimum(boxes_Q4.new_tensor([width, height, width, height]))


Reader = Callable[[Any, Any, Image.Image, Sequence[str]], tuple[Tensor, Tensor]]
_READERS: dict[str, Reader] = {
    "grounding-dino": _grounding_dino,
    "mm-grounding-dino": _grounding_dino,
    "owlvit": _owl,
    "owlv2": _owl,
    "omdet-turbo": _omdet,
}
