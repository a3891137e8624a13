"""A teacher that sees every picture once and not in every epoch."""

from collections.abc import Callable
from typing import Literal

from kdet.distill.cache.store import KEPT, Answer, Answers, one_of, stacked
from kdet.distill.cache.warp import moved
from kdet.types import Batch, Need, Observation

MOVABLE = frozenset({Need.CLASS_LOGITS, Need.BOXES, Need.QUERIES})
"""What can be moved with the pixels; feature maps, and distances to the left and right, cannot."""
Mode = Literal["views", "whole"]
"""views: an answer serves the very same pixels alone, so it is exact; images may be flipped, and nothing else.
whole: one answer an image, moved to each view of it; see `moved`."""
Observe = Callable[[Batch, frozenset[Need]], Observation]


class TeacherCache:
    """Stands between a teacher and its batches."""

    def __init__(self, answers: Answers, mode: Mode) -> None:
        self.answers, self.mode = answers, mode
        self.found = 0
        """Images whose answer was there."""
        self.seen = 0
        """Images that the teacher had to look at."""

    def observe(self, batch: Batch, needs: frozenset[Need], observe: Observe) -> Observation:
        """The teacher's observation of a batch in its own pixels; it is asked only for what is not there."""
        if batch.corners is None or not needs <= KEPT:
            return observe(batch, needs)
        rows = [self._known(batch, row) for row in range(len(batch.image_ids))]
        missing = [row for row, known in enumerate(rows) if known is None]
        self.found += len(rows) - len(missing)
        self.seen += len(missing)
        if missing:
            asked = batch.only(missing)
            fresh = observe(asked, needs)
            for place, row in enumerate(missing):
                rows[row] = one_of(fresh, place)
                if self.mode == "views":
                    self.keep(asked, place, fresh)
        return stacked([row for row in rows if row is not None])

    def keep(self, batch: Batch, row: int, seen: Observation) -> int:
        """Put away what the teacher saw of one image of a batch; returns its bytes."""
        return self.answers.save(self._name(batch, row), Answer(one_of(seen, row), batch.sizes_hw[row]))

    def knows_whole(self, image_id: int) -> bool:
        """Whether there is an answer about the whole image."""
        return self.answers.has(str(image_id))

    def _name(self, batch: Batch, row: int) -> str:
        """Name an image's answer; by views also after its flips and its canvas, whose padding a teacher sees too."""
        image = str(batch.image_ids[row])
        if self.mode == "whole":
            return image
        assert batch.corners is not None
        flipped = "".join(axis for axis, (a, b) in zip("hv", batch.corners[row].T.tolist(), strict=True) if a > b)
        height, width = batch.images.shape[-2:]
        return f"{image}-{height}x{width}{flipped}"

    def _known(self, batch: Batch, row: int) -> Observation | None:
        answer = self.answers.load(self._name(batch, row), batch.images.device)
        if answer is None:
            return None
        if self.mode == "views":
            return answer.seen
        assert batch.corners is not None
        height, width = batch.images.shape[-2:]
        strides = [level.stride for level in self.answers.levels]
        corners = batch.corners[row].to(batch.images.device)
        return moved(answer.seen, strides, answer.size_hw, corners, (height, width))
