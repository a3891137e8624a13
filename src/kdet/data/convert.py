"""Write a data set in another format, wholly or not at all."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from PIL import Image

from kdet.data.formats.table import FORMATS, Format, format_named
from kdet.data.images import read_size_hw
from kdet.data.index import DetectionIndex, Names
from kdet.data.source import Source
from kdet.errors import InputError, counted

_WITHOUT_SCORES = ("voc", "csv")
_WITHOUT_CROWD = ("yolo", "csv")


def convert(splits: Mapping[str, Source], to: str, folder: Path, *, copy_images: bool = True) -> tuple[str, ...]:
    """Write splits ("train", "val") of a data set to a new folder.

    Args:
        splits: what to write; classes are matched by name.
        to: a format of FORMATS that can be written.
        folder: must not exist, or be empty.
        copy_images: False: link to the images instead, where they are files.

    Returns:
        What could not be carried over, one line each.

    Raises:
        InputError: the folder is in use, the format cannot be written, or the names clash.
    """
    form = format_named(to)
    if form.write is None:
        writable = ", ".join(name for name, other in FORMATS.items() if other.write)
        raise InputError(f"format {to!r} cannot be written; choose one of {writable}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists already and is not empty; choose a new folder")
    indices = _distinct_names(_same_classes({split: source.index for split, source in splits.items()}))
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for split, source in splits.items():
            image_folder = form.write(indices[split], partial, split=split)
            for i in range(len(source.index)):
                _put_image(source, i, image_folder / indices[split].file_names[i], copy=copy_images)
        partial.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return tuple(_lost(folder, to, form, indices))


def _same_classes(indices: Mapping[str, DetectionIndex]) -> dict[str, DetectionIndex]:
    """One class list for all splits, matched by name: that of the first, then what the others add."""
    classes = tuple(dict.fromkeys(name for index in indices.values() for name in index.classes))
    first, count = next(iter(indices.values())), len(classes)
    ids = first.class_ids and (*first.class_ids, *range(max(first.class_ids) + 1, max(first.class_ids) + len(classes)))
    return {
        split: replace(index if index.classes == classes else index.relabelled(classes), class_ids=ids and ids[:count])
        for split, index in indices.items()
    }


def _lost(folder: Path, to: str, form: Format, indices: Mapping[str, DetectionIndex]) -> Iterator[str]:
    """What the new files do not say any more, one line each."""
    first = next(iter(indices.values()))
    crowd = sum(int(index.crowd.sum()) for index in indices.values())
    if to in _WITHOUT_CROWD and crowd:
        yield f"{folder}: {counted(crowd, 'crowd region')} left out; {to} has none"
    if to == "voc":
        if crowd:
            yield f"{folder}: {counted(crowd, 'crowd region')} written as `difficult`"
        yield f"{folder}: pixels are counted from 1, as VOC does"
    if to in _WITHOUT_SCORES and any(index.scores is not None for index in indices.values()):
        yield f"{folder}: the scores of the boxes left out; {to} has none"
    for split, index in indices.items():
        yield from _other_counts(folder, form, split, _without_crowd(index) if to in _WITHOUT_CROWD else index)
    if to in ("voc", "csv"):
        counts = [index.class_counts() for index in indices.values()]
        if unused := [name for name in first.classes if not any(count[name] for count in counts)]:
            yield f"{folder}: {to} has no list of classes, so that those without a box are lost: {', '.join(unused)}"
        if list(first.classes) != sorted(first.classes):
            yield f"{folder}: {to} has no list of classes, so that they will be in the order of their names"
        return
    numbers = first.class_ids or ()
    new = numbers if to == "coco" else range(len(first.classes))
    if len({own - other for own, other in zip(numbers, new, strict=bool(numbers))} - {0}) > (0 if to == "coco" else 1):
        pairs = zip(first.classes, numbers, new, strict=True)
        yield f"{folder}: class numbers change: {', '.join(f'{name} {a} → {b}' for name, a, b in pairs)}"


def _other_counts(folder: Path, form: Format, split: str, index: DetectionIndex) -> Iterator[str]:
    """Classes of which what was written holds another number of boxes."""
    assert form.read is not None
    try:
        after = form.read(folder, split=split, classes=index.classes).class_counts()
    except InputError as problem:
        yield f"{folder}: what was written cannot be read again: {problem}"
        return
    before = index.class_counts()
    if shown := [f"{name} {count} → {after[name]}" for name, count in before.items() if count != after[name]]:
        yield f"{folder}: other numbers of boxes in {split!r} after writing: {', '.join(shown)}"


def _without_crowd(index: DetectionIndex) -> DetectionIndex:
    """The index whose boxes are those of single objects."""
    return replace(index, labels=index.labels[~index.crowd], crowd=index.crowd[~index.crowd])


def _distinct_names(indices: Mapping[str, DetectionIndex]) -> dict[str, DetectionIndex]:
    """Splits often share an image folder: where two have an image of the same name, the split joins the name."""
    names = {split: [index.file_names[i] for i in range(len(index))] for split, index in indices.items()}
    stems = {split: {Path(name).with_suffix("").as_posix() for name in own} for split, own in names.items()}
    if sum(map(len, stems.values())) == len(set[str]().union(*stems.values())):
        return dict(indices)
    return {
        split: replace(index, file_names=Names.of(f"{split}/{name}" for name in names[split]))
        for split, index in indices.items()
    }


def _put_image(source: Source, i: int, target: Path, *, copy: bool) -> None:
    """The file itself where it shows what the annotations mean, else the pixels as read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    original = source.index.image(i)
    if original.is_file() and read_size_hw(original) == source.index.size_hw(i):
        if copy:
            shutil.copyfile(original, target)
        else:
            target.symlink_to(original.resolve())
        return
    pixels = source.read(i).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(target, quality=95)
