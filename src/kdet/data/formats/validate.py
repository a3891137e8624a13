"""What a reader found becomes an index, or one line that names the file and the entry.

N images, B boxes of the whole data set.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from kdet.data.formats.draft import Draft
from kdet.data.formats.naming import check_names
from kdet.data.index import DetectionIndex, Flags, Ints, Names, as_labels, offsets_of
from kdet.errors import InputError
from kdet.ops.classes import is_background, real_classes

OnBadBox = Literal["fix", "error", "drop", "clip"]
"""What to do with a box outside its image or without area. fix: up to 1 px outside is clipped, without area is dropped,
anything else is an error. clip: the same, but however far outside. drop: every bad box is dropped. error: every bad box
is an error."""

CLIP_PX = 1.0
"""A box this far outside is taken for an off-by-one."""
_MOST_PX2 = 1e30
"""An area that no image has is none."""
ROUNDING_PX = 0.01
"""A box this far outside is taken for rounding in the file: clipped under every policy, without a note."""

_SOUND, _BROKEN, _REVERSED, _FAR, _EMPTY, _SLIGHT = range(6)
"""What may be wrong with a box: not finite, a negative size, outside its image, no area, slightly outside."""
_FATAL = {
    "fix": (_BROKEN, _REVERSED, _FAR),
    "error": (_BROKEN, _REVERSED, _FAR, _EMPTY, _SLIGHT),
    "drop": (),
    "clip": (_BROKEN, _REVERSED),
}
_BLOCK = 2**19
"""Boxes looked at together; what is computed on the way takes some 200 bytes each."""
_DENSE = 16
"""Ids that fill more than one in so many numbers are looked up in a table: ten times as fast as a search."""


def checked(draft: Draft, on_bad_box: OnBadBox) -> DetectionIndex:
    """Return the index of a draft.

    Raises:
        InputError: no classes, no images, a name twice, a file name that leaves the folder, a bad box, a bad score.
    """
    if not draft.classes:
        raise InputError(f"{draft.file}: no categories; a detection data set names at least one class")
    draft = _without_empty_classes(draft)
    try:
        objects = real_classes(draft.classes)
    except InputError as problem:
        raise InputError(f"{draft.file}: {problem}") from None
    if not objects:
        raise InputError(f"{draft.file}: no categories but {list(draft.classes)}, which stands for no object; name one")
    if not draft.file_names:
        raise InputError(f"{draft.file}: no images; the data set is empty")
    check_names(draft.file, draft.file_names)
    if (unsized := np.flatnonzero((draft.sizes_hw <= 0).any(axis=1))).size:
        row = int(unsized[0])
        height, width = draft.sizes_hw[row].tolist()
        raise InputError(f"{draft.file}: image {draft.file_names[row]!r} has the size {width}×{height}")
    boxes, keep, notes = _mended(draft, on_bad_box)
    scores = _scores(draft)
    chosen = _by_image(draft.rows, keep)
    boxes_xyxy = boxes[chosen]
    # Made small first, then gathered from all over: more of a small array is at hand.
    areas = np.where(np.abs(draft.areas) < _MOST_PX2, draft.areas, np.nan).astype(np.float32)[chosen]
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return DetectionIndex(
        root=draft.root,
        classes=draft.classes,
        image_ids=draft.image_ids,
        file_names=Names.of(draft.file_names),
        sizes_hw=draft.sizes_hw,
        boxes_xyxy=boxes_xyxy,
        labels=as_labels(draft.labels, len(draft.classes))[chosen],
        crowd=draft.crowd[chosen],
        areas=np.where(np.isnan(areas), sides[:, 0] * sides[:, 1], areas),
        offsets=offsets_of(np.bincount(draft.rows[keep], minlength=len(draft.file_names))),
        scores=None if scores is None else scores[chosen],
        class_ids=draft.class_ids,
        first_pixel=draft.first_pixel,
        notes=(*draft.notes, *notes, *_twice(draft, keep)),
    )


def _scores(draft: Draft) -> NDArray[np.float32] | None:
    """How sure each box is; None where the file says it of none."""
    said = ~np.isnan(draft.scores)
    if not said.any():
        return None
    if (wrong := np.flatnonzero(said & ~((draft.scores >= 0) & (draft.scores <= 1)))).size:
        first = int(wrong[0])
        where = draft.describe(int(draft.rows[first]), int(draft.entries[first]))
        raise InputError(f"{where}: score {draft.scores[first]:g} is not in 0…1; mend the scores, or take them out")
    return np.where(said, draft.scores, 1.0).astype(np.float32)


def _without_empty_classes(draft: Draft) -> Draft:
    """Leave out classes that no box uses and that stand for nothing, or for what another of the same name stands."""
    if draft.settled:
        return draft
    used = np.bincount(draft.labels, minlength=len(draft.classes)) > 0
    order = sorted(range(len(draft.classes)), key=lambda label: (not used[label], label))
    first_of = {draft.classes[label]: label for label in reversed(order)}
    left_out = [
        label
        for label, name in enumerate(draft.classes)
        if not used[label] and (label in draft.roots or is_background(name) or first_of[name] != label)
    ]
    kept = [label for label in range(len(draft.classes)) if label not in left_out]
    if not left_out or not kept:
        return draft
    table = np.full(len(draft.classes), -1, np.int64)
    table[kept] = np.arange(len(kept))
    shown = ", ".join(repr(draft.classes[label]) for label in left_out)
    return replace(
        draft,
        classes=tuple(draft.classes[label] for label in kept),
        class_ids=draft.class_ids and tuple(draft.class_ids[label] for label in kept),
        labels=table[draft.labels],
        notes=(
            *draft.notes,
            f"{draft.file}: classes left out, which no box is of and which stand for nothing: {shown}",
        ),
    )


def _twice(draft: Draft, keep: Flags) -> tuple[str, ...]:
    """One line about boxes that stand twice on an image, with the same class; they are kept as they are."""
    chosen = np.flatnonzero(keep & ~draft.crowd)
    # One number for each box; only those that agree in it are compared in full.
    weights = np.array([0.7310585, 1.6180339, 2.7182818, 3.1415926])
    with np.errstate(all="ignore"):
        keys = draft.boxes_xyxy[chosen] @ weights + draft.labels[chosen] * 7919.0 + draft.rows[chosen] * 104729.0
    order = np.argsort(keys, kind="stable")
    alike = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    first, second = chosen[order[alike]], chosen[order[alike + 1]]
    same = (draft.rows[first] == draft.rows[second]) & (draft.labels[first] == draft.labels[second])
    same &= (draft.boxes_xyxy[first] == draft.boxes_xyxy[second]).all(axis=1)
    again = np.zeros(len(keep), bool)
    again[second[same]] = True
    note = _note(draft, again, "stand twice on their image (the same class and box), and are kept")
    return (note,) if note else ()


def _by_image(rows: Ints, keep: Flags) -> Ints:
    """Positions of the boxes to keep, image by image, and in the file's order on each."""
    chosen = np.flatnonzero(keep)
    # One number for row and position: numbers are sorted three times as fast as an order that is stable is found.
    keys = rows[chosen] * len(rows) + chosen
    keys.sort()
    return keys % max(1, len(rows))


def _mended(draft: Draft, on_bad_box: OnBadBox) -> tuple[NDArray[np.float32], Flags, tuple[str, ...]]:
    """Boxes inside their images, which of them to keep, and what was done."""
    boxes = np.empty(draft.boxes_xyxy.shape, np.float32)
    faults = np.full(len(boxes), _SOUND, np.uint8)
    for first in range(0, len(boxes), _BLOCK):
        own = slice(first, first + _BLOCK)
        raw, limits = draft.boxes_xyxy[own], draft.sizes_hw[draft.rows[own]][:, ::-1]
        with np.errstate(over="ignore"):  # what is too large for float32 is outside its image
            boxes[own] = raw
        odd = np.flatnonzero(~_sound(raw, boxes[own], limits))
        boxes[first + odd], faults[first + odd] = _clipped(raw[odd], limits[odd])
    if (fatal := np.isin(faults, _FATAL[on_bad_box])).any():
        _refuse(draft, fatal)
    if on_bad_box in ("drop", "error"):
        dropped = faults != _SOUND
        notes = [_note(draft, dropped, "dropped: outside or no area")]
    else:
        dropped = (faults == _EMPTY) | ((faults == _FAR) & ~(boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        notes = [_note(draft, dropped, "dropped: no area" if on_bad_box == "fix" else "dropped: no area inside")]
        notes.append(_note(draft, faults == _SLIGHT, "clipped: up to 1 px outside"))
        notes.append(_note(draft, (faults == _FAR) & ~dropped, "clipped: more than 1 px outside"))
    return boxes, ~dropped, tuple(note for note in notes if note)


def _sound(raw: NDArray[np.float64], rounded: NDArray[np.float32], limits: NDArray[np.int32]) -> Flags:
    """Find the boxes in which `_clipped` has nothing to change: as good as all of them, and this is far faster."""
    (x1, y1, x2, y2), (left, top, right, bottom), (width, height) = raw.T, rounded.T, limits.T
    return (x1 >= 0) & (y1 >= 0) & (x2 <= width) & (y2 <= height) & (left < right) & (top < bottom)


def _clipped(raw: NDArray[np.float64], limits: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Boxes cut to their images' widths and heights, and the fault of each."""
    broken: Flags = np.asarray(~np.isfinite(raw).all(axis=1))
    reversed_ = (raw[:, 2:] < raw[:, :2]).any(axis=1)
    outside_px = np.nan_to_num(np.maximum(-raw.min(axis=1, initial=0.0), (raw[:, 2:] - limits).max(axis=1)))
    outside_px = np.maximum(outside_px, np.nan_to_num((raw[:, :2] - limits).max(axis=1)))
    boxes = np.where(broken[:, None], 0.0, raw).clip(0, np.concatenate([limits, limits], axis=1)).astype(np.float32)
    empty = ~(boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    # The first that holds counts; a box that is slightly outside and without area is without area.
    found = [broken, reversed_, outside_px > CLIP_PX, empty, outside_px > ROUNDING_PX]
    return boxes, np.select(found, [_BROKEN, _REVERSED, _FAR, _EMPTY, _SLIGHT], _SOUND).astype(np.uint8)


def _note(draft: Draft, which: Flags, done: str) -> str:
    """One line for all boxes of a kind, or nothing."""
    found = np.flatnonzero(which)
    if not found.size:
        return ""
    first = int(found[0])
    where = draft.describe(int(draft.rows[first]), int(draft.entries[first]))
    boxes = "1 box" if found.size == 1 else f"{found.size} boxes"
    return f"{draft.file}: {boxes} {done} (first: {where})"


def _refuse(draft: Draft, fatal: Flags) -> NoReturn:
    """Name the first bad box and say what is wrong with it."""
    found = np.flatnonzero(fatal)
    first = int(found[0])
    where = draft.describe(int(draft.rows[first]), int(draft.entries[first]))
    height, width = draft.sizes_hw[draft.rows[first]].tolist()
    x1, y1, x2, y2 = draft.boxes_xyxy[first].tolist()
    box = f"box x {x1:g}…{x2:g}, y {y1:g}…{y2:g}"
    mend = "mend the file, or read it with --on-bad-box drop"
    if np.isnan([x1, y1, x2, y2]).all():
        reason = draft.boxless
    elif not np.isfinite([x1, y1, x2, y2]).all():
        reason = f"{box} is not finite"
    elif x2 < x1 or y2 < y1:
        reason = f"{box} has a negative size"
    elif x2 == x1 or y2 == y1:
        reason = f"{box} has no area"
    else:
        reason = f"{box} lies outside its image of {width}×{height} px"
        reason += draft.outside if x1 > width and y1 > height else ""
        mend = "mend the file, or read it with --on-bad-box clip or --on-bad-box drop"
    more = f" ({found.size - 1} more like it)" if found.size > 1 else ""
    raise InputError(f"{where}: {reason}{more}; {mend}")


def check_unique(file: Path, ids: Ints, what: str) -> None:
    """Refuse an id that stands twice.

    Raises:
        InputError: naming it.
    """
    if (ids[1:] > ids[:-1]).all():
        return
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"{file}: {what} {values[int(np.argmax(counts > 1))]} stands twice; ids must differ")


def rows_of(ids: Ints, wanted: Ints) -> Ints:
    """Return the position of each wanted id among unique `ids`, -1 where it is none of them."""
    if not ids.size:
        return np.full(len(wanted), -1, np.int64)
    first, last = int(ids.min()), int(ids.max())
    if last - first < _DENSE * len(ids):
        table = np.full(last - first + 3, -1, np.int64)  # the first and the last place are nobody's
        table[ids - (first - 1)] = np.arange(len(ids))
        return table[wanted.clip(first - 1, last + 1) - (first - 1)]
    order = np.argsort(ids, kind="stable")
    places = np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)
    rows = order[places]
    return np.where(ids[rows] == wanted, rows, -1)
