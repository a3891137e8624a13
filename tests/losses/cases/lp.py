"""|S − T|^p, one scalar at a time."""

from torch import Tensor

from losses.contract import Case, feature_levels, levels_of_a_half_dead_teacher, no_images, permute_images
from losses.reference import rescaled, taught


def reference(student: list[Tensor], teacher: list[Tensor], *, p: int, normalize="channel") -> float:
    loss = 0.0
    for level_s, level_t in zip(student, teacher, strict=True):
        total = 0.0
        for n in range(len(level_s)):
            s_image, t_image = rescaled(level_s[n].tolist(), normalize), rescaled(level_t[n].tolist(), normalize)
            for s, t, counts in zip(s_image, t_image, taught(level_t[n].tolist(), normalize), strict=True):
                if not counts:
                    continue
                for row_s, row_t in zip(s, t, strict=True):
                    total += sum(abs(x - y) ** p for x, y in zip(row_s, row_t, strict=True))
        loss += total / level_s.numel()
    return loss


CASES = [
    Case(
        loss="lp",
        make=make,
        reference=reference,
        options={"p": p, "normalize": normalize},
        empty=no_images(1),
        permute=permute_images,
    )
    for p in (1, 2)
    for normalize in ("channel", "sample", None)
    for make in (feature_levels, levels_of_a_half_dead_teacher)
]
