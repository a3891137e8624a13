"""One minus the cosine of each cell, cell by cell."""

import math

from torch import Tensor

from losses.contract import Case, feature_levels, no_images, permute_images


def reference(student: list[Tensor], teacher: list[Tensor]) -> float:
    loss = 0.0
    for level_s, level_t in zip(student, teacher, strict=True):
        images, _, height, width = level_s.shape
        total = 0.0
        for n in range(images):
            cells = [(row, column) for row in range(height) for column in range(width)]
            vectors = [[x[n, :, row, column].tolist() for row, column in cells] for x in (level_s, level_t)]
            norms = [[math.sqrt(sum(x * x for x in v)) for v in side] for side in vectors]
            least = [max(1e-6, 0.01 * sum(side) / len(side)) for side in norms]
            for cell in range(len(cells)):
                dot = sum(s * t for s, t in zip(vectors[0][cell], vectors[1][cell], strict=True))
                total += 1 - dot / (max(norms[0][cell], least[0]) * max(norms[1][cell], least[1]))
        loss += total / (images * height * width)
    return loss


CASES = [Case(loss="cosine", make=feature_levels, reference=reference, empty=no_images(1), permute=permute_images)]
