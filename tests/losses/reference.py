"""Every loss once more in float64, one scalar at a time, written from the papers' formulas and nothing else."""

import math

from torch import Tensor

C1, C2 = 0.01**2, 0.03**2
C3 = C2 / 2


def gaussian_taps(window: int, sigma: float) -> list[float]:
    taps = [math.exp(-((i - window // 2) ** 2) / (2 * sigma**2)) for i in range(window)]
    return [tap / sum(taps) for tap in taps]


def outside(position: int, size: int, mirrored: bool) -> int:
    """The cell that stands in for a position beyond the border."""
    if not mirrored:
        return min(max(position, 0), size - 1)
    if position < 0:
        return -position
    return 2 * (size - 1) - position if position >= size else position


def local_mean(values: list[list[float]], row: int, column: int, taps: list[float]) -> float:
    height, width, margin = len(values), len(values[0]), len(taps) // 2
    mirrored = min(height, width) > margin
    total = 0.0
    for i, down in enumerate(taps):
        for j, right in enumerate(taps):
            cell = values[outside(row + i - margin, height, mirrored)]
            total += down * right * cell[outside(column + j - margin, width, mirrored)]
    return total


def rescaled(image: list[list[list[float]]], normalize: str | None) -> list[list[list[float]]]:
    """ν of one image, C×H×W."""
    if normalize is None:
        return image
    ranges = [(min(map(min, channel)), max(map(max, channel))) for channel in image]
    floor = max(1e-6, 0.01 * sum(hi - lo for lo, hi in ranges) / len(ranges))
    if normalize == "sample":
        ranges = [(min(lo for lo, _ in ranges), max(hi for _, hi in ranges))] * len(ranges)
    return [
        [[(x - lo) / max(hi - lo, floor) for x in row] for row in channel]
        for channel, (lo, hi) in zip(image, ranges, strict=True)
    ]


def product(maps: list[list[float]], others: list[list[float]]) -> list[list[float]]:
    return [[x * y for x, y in zip(row, other, strict=True)] for row, other in zip(maps, others, strict=True)]


def ssim_at(moments: list[float], powers: tuple[float, ...]) -> float:
    mean_s, mean_t, square_s, square_t, product_st = moments
    sigma_s, sigma_t = math.sqrt(max(square_s - mean_s**2, 0)), math.sqrt(max(square_t - mean_t**2, 0))
    sigma_st = product_st - mean_s * mean_t
    factors = (
        (2 * mean_s * mean_t + C1) / (mean_s**2 + mean_t**2 + C1),
        (2 * sigma_s * sigma_t + C2) / (sigma_s**2 + sigma_t**2 + C2),
        (sigma_st + C3) / (sigma_s * sigma_t + C3),
    )
    value = 1.0
    for factor, power in zip(factors, powers, strict=True):
        if power:
            value *= (factor if power == int(power) else max(factor, 1e-6)) ** power
    return value


def structural(student: list[Tensor], teacher: list[Tensor], *, alpha=1.0, beta=1.0, gamma=1.0, window=11, sigma=1.5,
               normalize="channel") -> float:  # fmt: skip
    taps, loss = gaussian_taps(window, sigma), 0.0
    for level_s, level_t in zip(student, teacher, strict=True):
        images, channels, height, width = level_s.shape
        total = 0.0
        for n in range(images):
            s_image, t_image = rescaled(level_s[n].tolist(), normalize), rescaled(level_t[n].tolist(), normalize)
            for s, t in zip(s_image, t_image, strict=True):
                maps = (s, t, product(s, s), product(t, t), product(s, t))
                for row in range(height):
                    for column in range(width):
                        moments = [local_mean(values, row, column, taps) for values in maps]
                        total += (1 - ssim_at(moments, (alpha, beta, gamma))) / 2
        loss += total / (images * channels * height * width)
    return loss


def lp(student: list[Tensor], teacher: list[Tensor], *, p: int, normalize="channel") -> float:
    loss = 0.0
    for level_s, level_t in zip(student, teacher, strict=True):
        total = 0.0
        for n in range(len(level_s)):
            s_image, t_image = rescaled(level_s[n].tolist(), normalize), rescaled(level_t[n].tolist(), normalize)
            for s, t in zip(s_image, t_image, strict=True):
                for row_s, row_t in zip(s, t, strict=True):
                    total += sum(abs(x - y) ** p for x, y in zip(row_s, row_t, strict=True))
        loss += total / level_s.numel()
    return loss


def softmax(scores: list[float]) -> list[float]:
    weights = [math.exp(score - max(scores)) for score in scores]
    return [weight / sum(weights) for weight in weights]


def divergence(teacher: list[float], student: list[float]) -> float:
    return sum(t * (math.log(t) - math.log(s)) for t, s in zip(teacher, student, strict=True))


def rank_mimicking(
    student: Tensor, teacher: Tensor, object_index: Tensor, num_objects: float, *, temperature=1.0
) -> float:
    loss = 0.0
    for number in sorted(set(object_index.tolist())):
        entries = [i for i, other in enumerate(object_index.tolist()) if other == number]
        t = softmax([float(teacher[i]) / temperature for i in entries])
        s = softmax([float(student[i]) / temperature for i in entries])
        loss += divergence(t, s)
    return loss / num_objects


def prediction_guided(features_s, features_t, logits_s, logits_t, *, reduction="l2", prediction="logit",
                      detach_weight=False) -> float:  # fmt: skip
    del detach_weight  # changes the gradient only
    per_level = []
    for f_s, f_t, p_s, p_t in zip(features_s, features_t, logits_s, logits_t, strict=True):
        if prediction == "probability":
            p_s, p_t = p_s.sigmoid(), p_t.sigmoid()
        images, _, height, width = f_s.shape
        per_image = []
        for n in range(images):
            cells = []
            for row in range(height):
                for column in range(width):
                    p_gap = [
                        float(a - b) ** 2 for a, b in zip(p_t[n, :, row, column], p_s[n, :, row, column], strict=True)
                    ]
                    f_gap = [
                        float(a - b) ** 2 for a, b in zip(f_t[n, :, row, column], f_s[n, :, row, column], strict=True)
                    ]
                    cells.append(sum(p_gap) / len(p_gap) * sum(f_gap) / len(f_gap))
            norm = math.sqrt(sum(cell**2 for cell in cells))
            per_image.append((norm if reduction == "l2" else sum(cells)) / len(cells))
        per_level.append(sum(per_image) / images)
    return sum(per_level) / len(per_level)


def soft_labels(student: Tensor, teacher: Tensor, *, temperature=1.0, activation="sigmoid", normaliser=None) -> float:
    total = 0.0
    for row_s, row_t in zip((student / temperature).tolist(), (teacher / temperature).tolist(), strict=True):
        if activation == "softmax":
            total += divergence(softmax(row_t), softmax(row_s))
        else:
            for s, t in zip(row_s, row_t, strict=True):
                p, q = 1 / (1 + math.exp(-t)), 1 / (1 + math.exp(-s))
                total += divergence([p, 1 - p], [q, 1 - q])
    return total * temperature**2 / (max(len(student), 1) if normaliser is None else normaliser)
