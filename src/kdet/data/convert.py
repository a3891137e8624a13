"""Write a data set in another format, wholly or not at all."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from PIL import Image

from kdet.data.formats import FORMATS, format_named
from kdet.data.images import read_size_hw
from kdet.data.index import DetectionIndex, Names
from kdet.data.source import Source
from kdet.errors import InputError


def convert(splits: Mapping[str, Source], to: str, folder: Path, *, copy_images: bool = True) -> tuple[str, ...]:
    """Write splits ("train", "val") of a data set to a new folder.

    Args:
        splits: what to write; all with the same classes.
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
    indices = _distinct_names({split: source.index for split, source in splits.items()})
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
    crowd = sum(int(index.crowd.sum()) for index in indices.values())
    notes = [f"{folder}: {crowd} crowd regions left out; YOLO has none"] if to == "yolo" and crowd else []
    if to == "voc" and any(index.scores is not None for index in indices.values()):
        notes.append(f"{folder}: the scores of the boxes left out; VOC has none")
    return tuple(notes)


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
