"""The cache of a recipe's `teacher: {cache: …}`: its folder, its cost, its filling."""

import hashlib
import shutil
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from kdet.data import DetectionDataset, collate
from kdet.distill import PairedTeacher
from kdet.distill.cache.store import Answers
from kdet.distill.cache.teacher_cache import TeacherCache
from kdet.distill.distiller import as_seen_by
from kdet.distill.preflight.proof import state_hash
from kdet.errors import InputError
from kdet.files import is_file
from kdet.train.recipe.models import OneTeacher
from kdet.train.state.run import Run
from kdet.train.state.run_log import Progress
from kdet.train.teaching.cache_compat import mode_for, require_movable, views_of
from kdet.types import Batch, Level, Need

_SHOWN = 16
"""Digits of a hash; it is to tell things apart, not to withstand anybody."""


def open_caches(run: Run) -> None:
    """Give every teacher with `cache:` its folder; where answers are moved, the teacher looks at all images first.

    Raises:
        InputError: too little room, or a folder of something else.
    """
    criterion = run.distiller.criterion
    if criterion is None:
        return
    for recipe, paired, needs in zip(
        run.recipe.teachers, run.distiller.paired_teachers, criterion.teacher_needs, strict=True
    ):
        if recipe.cache is not None:
            _open(run, recipe, paired, needs)


def say_what_was_found(run: Run) -> None:
    """Say after the last epoch how often a cache spared the teacher."""
    for paired in run.distiller.paired_teachers:
        if (cache := paired.teacher.cache) is not None:
            total = cache.found + cache.seen
            run.log.say(f"teacher cache: {cache.found} of {total} answers came from {cache.answers.folder}")


def _open(run: Run, recipe: OneTeacher, paired: PairedTeacher, needs: frozenset[Need]) -> None:
    assert recipe.cache is not None and isinstance(run.loader.dataset, DetectionDataset)
    data, teacher = run.loader.dataset, paired.teacher
    mode = mode_for(data.pipeline, needs)
    plain = DetectionDataset(data.source, data.pipeline.plain())
    first = _batch(plain, 0, paired).to(run.engine.device)
    with run.engine.autocast():
        started = time.perf_counter()
        seen = teacher.observe(first, needs)
        seconds = time.perf_counter() - started
    if mode == "whole":
        require_movable(seen, first)
    about = about_teacher(paired, data) | {"precision": run.recipe.train.precision, "mode": mode}
    # Arms of a comparison read other things of one teacher, and may share its folder.
    folder = recipe.cache / "+".join(sorted(need.name.lower() for need in needs))
    cache = TeacherCache(Answers(folder, about, teacher.levels), mode)
    size = cache.keep(first, 0, seen)
    pictures = len(data) * (1 if mode == "whole" else views_of(data.pipeline))
    free = shutil.disk_usage(recipe.cache).free
    shown = f"about {pictures} answers of {_bytes(size)}, {_bytes(size * pictures)} of {_bytes(free)} that are free"
    run.log.say(f"teacher cache: {shown}; {seconds * pictures / 60:.0f} minutes of the teacher, once")
    if size * pictures > free:
        raise InputError(f"{recipe.cache}: {shown}; choose another disk, or leave `cache:` out")
    if mode == "whole":
        run.log.say("teacher cache: answers are those of the whole image, moved; the teacher does not see each crop")
        _look_at_all(run, plain, paired, needs, cache)
    teacher.cache = cache


def about_teacher(paired: PairedTeacher, data: DetectionDataset) -> dict[str, Any]:
    """Return all on which a teacher's answers for these images depend, whole and as they are."""
    return {
        "teacher": state_hash(paired.teacher.model)[:_SHOWN],
        "image_size": [data.pipeline.image_size, paired.scale],
        "anchors": _hash_of_anchors(paired.teacher.levels),
        "canvas": data.pipeline.canvas,
        "images": hash_of_images(data),
    }


def _hash_of_anchors(levels: Sequence[Level]) -> str:
    """Boxes are decoded from them, and no weight says where they are."""
    return hashlib.sha256(repr([level.anchors for level in levels]).encode()).hexdigest()[:_SHOWN]


def hash_of_images(data: DetectionDataset) -> str:
    """Hash names, sizes and dates of the files; for generated images, which have none, what is on them."""
    index = data.source.index
    digest = hashlib.sha256(np.ascontiguousarray(index.image_ids).tobytes())
    digest.update(np.ascontiguousarray(index.sizes_hw).tobytes())
    for i in range(len(index)):
        path = index.image(i)
        if is_file(path):
            about = path.stat()
            digest.update(f"{path} {about.st_size} {about.st_mtime_ns}".encode())
        else:
            digest.update(index.objects(i).boxes_xyxy.tobytes())
    return digest.hexdigest()[:_SHOWN]


def _look_at_all(
    run: Run, plain: DetectionDataset, paired: PairedTeacher, needs: frozenset[Need], cache: TeacherCache
) -> None:
    """Fill the cache; what an earlier run filled in is kept."""
    teacher, device = paired.teacher, run.engine.device
    own = range(run.engine.rank, len(plain), run.engine.world)
    progress = Progress("teacher cache", len(plain))
    with run.interruption.at_once(), run.engine.autocast():
        for i in own:
            if not cache.knows_whole(int(plain.source.index.image_ids[i])):
                batch = _batch(plain, i, paired).to(device)
                cache.keep(batch, 0, teacher.observe(batch, needs))
            progress.advance(run.engine.world)
    progress.close()
    run.engine.wait()


def _batch(plain: DetectionDataset, i: int, paired: PairedTeacher) -> Batch:
    """One whole image as the teacher sees it."""
    batch = collate([plain[i]], teacher_scale=plain.pipeline.teacher_scale)
    return as_seen_by(paired, batch).for_teacher()


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.3g} {unit}"
