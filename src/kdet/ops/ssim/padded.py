"""Maps with room for a mirrored border around them.

Legend: B maps stacked along the batch, C channels, H W size of a map; `margin` cells of border on every side.
"""

from torch import Tensor

_HEIGHT, _WIDTH = 2, 3


class Padded:
    """A buffer B×C×(H+2·margin)×(W+2·margin) with the views of it that a blur needs, made once for many uses."""

    def __init__(self, whole_BCHW: Tensor, margin: int) -> None:
        self.whole = self.inside = whole_BCHW
        self._lines: list[tuple[Tensor, Tensor]] = []
        for axis in (_HEIGHT, _WIDTH):
            self._lines += _mirrored_lines(whole_BCHW, axis, margin)
            self.inside = self.inside.narrow(axis, margin, whole_BCHW.shape[axis] - 2 * margin)

    def mirror(self) -> None:
        """Write the border from the inside: rows first, so that the columns carry them into the corners."""
        for outside, source in self._lines:
            outside.copy_(source)


def edges(maps_BCHW: Tensor) -> list[Tensor]:
    """Return the first and last row, first and last column."""
    return [maps_BCHW.select(axis, end) for axis in (_HEIGHT, _WIDTH) for end in (0, -1)]


def _mirrored_lines(whole: Tensor, axis: int, margin: int) -> list[tuple[Tensor, Tensor]]:
    """Each line of an axis' border with the line that it mirrors; the edge itself is not repeated."""
    first, last = margin, whole.shape[axis] - 1 - margin
    pairs = [pair for k in range(1, margin + 1) for pair in ((first - k, first + k), (last + k, last - k))]
    return [(whole.select(axis, to), whole.select(axis, source)) for to, source in pairs]
