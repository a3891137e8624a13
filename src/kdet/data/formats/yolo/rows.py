"""One row of a YOLO label file: a box, an outline, a box with keypoints, or a box with a score."""

from pathlib import Path

import numpy as np

from kdet.errors import InputError, counted

Box = tuple[float, float, float, float]
"""x1 y1 x2 y2 relative to the image."""


class Rows:
    """Reads rows, as `kpt_shape` says what stands in them, and counts what is more than a box."""

    def __init__(self, keypoints: tuple[int, int] | None, num_classes: int) -> None:
        """`keypoints`: how many stand behind each box, and how many numbers each has."""
        self.keypoints = keypoints
        self.num_classes = num_classes
        self.with_keypoints = self.outlines = self.with_score = 0

    def read(self, where: str, line: str) -> tuple[int, Box]:
        """The class and box of a row.

        Raises:
            InputError: no numbers, a length that is that of no kind of row, or an unknown class.
        """
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            raise InputError(f"{where}: expected numbers, got {line.strip()[:80]!r}") from None
        box = self._box(where, values)
        label = values[0]
        if not (label.is_integer() and 0 <= label < self.num_classes):
            raise InputError(
                f"{where}: class {label:g} is none of 0…{self.num_classes - 1}; name it in the list of classes, or "
                "mend the row"
            )
        return int(label), box

    def notes(self, file: Path) -> tuple[str, ...]:
        """One line for each kind of row that is more than a box."""
        found: list[str] = []
        if self.with_keypoints and self.keypoints:
            shape, rows = list(self.keypoints), counted(self.with_keypoints, "row")
            found.append(f"{file}: {rows} of a box with keypoints (kpt_shape {shape}); the box alone is read")
        if self.outlines:
            found.append(f"{file}: {counted(self.outlines, 'row')} of an outline, whose extent is the box")
        if self.with_score:
            found.append(f"{file}: {counted(self.with_score, 'row')} with a score behind the box, which is not read")
        return tuple(found)

    def _box(self, where: str, values: list[float]) -> Box:
        count = len(values)
        if count == 5:
            return _from_centre(values[1:5])
        if self.keypoints is not None:
            expected = 5 + self.keypoints[0] * self.keypoints[1]
            if count != expected:
                raise InputError(
                    f"{where}: expected {expected} numbers (a class, a box and the keypoints of kpt_shape "
                    f"{list(self.keypoints)}) or 5, got {count}"
                )
            self.with_keypoints += 1
            return _from_centre(values[1:5])
        if count == 6:
            self.with_score += 1
            return _from_centre(values[1:5])
        if count >= 7 and count % 2:
            self.outlines += 1
            xs, ys = np.array(values[1::2]), np.array(values[2::2])
            return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())
        pose = ""
        if count > 5 and (count - 5) % 3 == 0:
            pose = f"; a box with {(count - 5) // 3} keypoints has so many: say `kpt_shape: [{(count - 5) // 3}, 3]`"
        raise InputError(f"{where}: expected a class and four numbers (or an outline, x y pairs), got {count}{pose}")


def _from_centre(values: list[float]) -> Box:
    """Centre and size as corners."""
    x, y, width, height = values
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2
