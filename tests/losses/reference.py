"""What several reference formulas share: in float64, one scalar at a time, from the papers and nothing else."""

import math


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


def taught(image: list[list[list[float]]], normalize: str | None) -> list[bool]:
    """Whether the teacher's range is believed, channel by channel."""
    ranges = [max(map(max, channel)) - min(map(min, channel)) for channel in image]
    share = 0.01 * sum(ranges) / len(ranges)
    floor = share if share > 1e-6 else 0.0
    if normalize == "sample":
        whole = max(max(map(max, channel)) for channel in image) - min(min(map(min, channel)) for channel in image)
        return [whole > floor] * len(ranges)
    return [normalize is None or extent > floor for extent in ranges]


def product(maps: list[list[float]], others: list[list[float]]) -> list[list[float]]:
    return [[x * y for x, y in zip(row, other, strict=True)] for row, other in zip(maps, others, strict=True)]


def softmax(scores: list[float]) -> list[float]:
    weights = [math.exp(score - max(scores)) for score in scores]
    return [weight / sum(weights) for weight in weights]


def divergence(teacher: list[float], student: list[float]) -> float:
    return sum(t * (math.log(t) - math.log(s)) for t, s in zip(teacher, student, strict=True))
