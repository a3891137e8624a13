"""Folders of the smallest zero-shot detectors of transformers, with random weights and a vocabulary of a few words."""

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="zero-shot detectors need Hugging Face transformers")
import transformers

KINDS = ("grounding-dino", "mm-grounding-dino", "owlvit", "owlv2", "omdet-turbo")
CLIP_TEXT = {
    "vocab_size": 99,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "bos_token_id": 59,
    "eos_token_id": 60,
    "pad_token_id": 60,
}
OWL = {
    "text_config": {**CLIP_TEXT, "max_position_embeddings": 16},
    "vision_config": {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
    },
    "projection_dim": 16,
}
SWIN = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 2,
    "image_size": 64,
    "out_indices": [2, 3, 4],
}
BERT = {
    "model_type": "bert",
    "vocab_size": 1040,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
GROUNDING: dict[str, Any] = {
    "backbone_config": SWIN,
    "text_config": BERT,
    "d_model": 32,
    "num_queries": 12,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "num_feature_levels": 4,
    "max_text_len": 32,
}
OMDET: dict[str, Any] = {
    "backbone_config": {**SWIN, "out_indices": [2, 3, 4]},
    "text_config": {"model_type": "clip_text_model", **CLIP_TEXT, "max_position_embeddings": 77, "projection_dim": 16},
    "apply_layernorm_after_vision_backbone": False,
    "image_size": 64,
    "text_projection_in_dim": 16,
    "text_projection_out_dim": 16,
    "task_encoder_hidden_dim": 16,
    "class_embed_dim": 16,
    "num_queries": 12,
    "encoder_hidden_dim": 32,
    "vision_features_channels": [32, 32, 32],
    "encoder_in_channels": [16, 32, 64],
    "encoder_attention_heads": 2,
    "encoder_dim_feedforward": 16,
    "decoder_hidden_dim": 32,
    "decoder_num_heads": 2,
    "decoder_num_layers": 1,
    "decoder_dim_feedforward": 16,
}


def _clip_tokenizer(most: int) -> Any:
    letters = [*"abcdefghijklmnopqrstuvwxyz", ".", ",", "?"]
    words = ["!", *letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {word: number for number, word in enumerate(words)}
    return transformers.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=most)


def _bert_tokenizer() -> Any:
    """Full stop and question mark stand where Grounding DINO looks for them by their numbers."""
    fixed = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?", 1010: ","}
    words = ["a", "the", "red", "car", "bus", "coach", "circle", "square", "##s", "dog"]
    fixed |= {200 + place: word for place, word in enumerate(words)}
    vocab = {fixed.get(number, f"[unused{number}]"): number for number in range(1040)}
    return transformers.BertTokenizer(vocab=vocab, model_max_length=64)


def zero_shot_folder(folder: Path, kind: str, seed: int = 0) -> Path:
    """Model and processor as `save_pretrained` writes them."""
    size, owls = {"height": 64, "width": 64}, kind.startswith("owl")
    config = transformers.CONFIG_MAPPING[kind](**(OWL if owls else OMDET if kind == "omdet-turbo" else GROUNDING))
    torch.manual_seed(seed)
    model = transformers.AutoModelForZeroShotObjectDetection.from_config(config)
    if kind == "owlv2":
        images, tokenizer = transformers.Owlv2ImageProcessor(size=size), _clip_tokenizer(16)
        processor = transformers.Owlv2Processor(images, tokenizer)
    elif kind == "owlvit":
        images, tokenizer = transformers.OwlViTImageProcessor(size=size), _clip_tokenizer(16)
        processor = transformers.OwlViTProcessor(images, tokenizer)
    elif kind == "omdet-turbo":
        images = transformers.DetrImageProcessor(size=size, do_pad=False)
        processor = transformers.OmDetTurboProcessor(images, _clip_tokenizer(77))
    else:
        images = transformers.GroundingDinoImageProcessor(size={"shortest_edge": 130, "longest_edge": 200})
        processor = transformers.GroundingDinoProcessor(images, _bert_tokenizer())
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
