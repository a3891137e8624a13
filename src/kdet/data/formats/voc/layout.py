"""Where a VOC data set's XML files, images and lists lie, and which of them a split has."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdet.data.formats.naming import HELP, check_names, last_part, leaves
from kdet.data.formats.splits import chosen, is_split
from kdet.data.formats.voc.xml import Annotation
from kdet.data.images import SUFFIXES
from kdet.data.listing import image_names
from kdet.errors import InputError, counted
from kdet.files import is_file, is_folder

_XML_FOLDERS = ("Annotations", "annotations")
_IMAGE_FOLDERS = ("JPEGImages", "images")


@dataclass(frozen=True)
class Layout:
    """The files of one split."""

    annotations: Path
    images: Path
    stems: list[str]
    """Paths of the split's XML files relative to `annotations`, without suffix."""
    others: list[Path]
    """XML files of the other splits: classes, and what pixels are counted from, are the same in all."""
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> list[Path]:
        """The split's XML files."""
        return [self.annotations / f"{stem}.xml" for stem in self.stems]


def recognise(path: Path) -> bool:
    """Whether a path looks like VOC: a folder with XML files, or with folders of them, or a list in ImageSets/."""
    if _is_list(path):
        return True
    if not is_folder(path):
        return False
    folders = [path, *(path / name for name in _XML_FOLDERS), *_split_folders(path).values()]
    return any(next(_xml_files(folder), None) is not None for folder in folders)


def layout(path: Path, split: str, images: Path | None) -> Layout:
    """Return the files of a split, or of the images of a list where the path is one.

    Raises:
        InputError: no such folder, no XML files, or no such split.
    """
    if _is_list(path):
        return _of_list(path, folder_of(path), images, ())
    if not is_folder(path):
        raise InputError(f"{path}: no such folder; VOC data are a folder with Annotations/ and JPEGImages/")
    lists = path / "ImageSets" / "Main"
    if lists.is_dir():
        found = {file.stem: file for file in sorted(lists.glob("*.txt")) if is_file(file)}
        found = {name: file for name, file in found.items() if is_split(name)} or found
        file, notes = chosen(lists, split, found)
        return _of_list(file, path, images, notes)
    folders = _split_folders(path)
    base, notes = chosen(path, split, folders or {"": path})
    others = list[Path]()
    if folders:
        others = [file for folder in folders.values() if folder != base for file in folder.rglob("*.xml")]
    annotations = next((base / name for name in _XML_FOLDERS if (base / name).is_dir()), base)
    stems = sorted(file.relative_to(annotations).with_suffix("").as_posix() for file in annotations.rglob("*.xml"))
    if not stems:
        raise InputError(f"{annotations}: no XML files; VOC data are a folder with Annotations/ and JPEGImages/")
    return Layout(annotations, images or _image_folder(base), stems, others, notes)


def folder_of(path: Path) -> Path:
    """Return the data set's folder: the path itself, or that of a list in ImageSets/."""
    return path.parents[2] if _is_list(path) else path


def images_of(path: Path, own: Layout, found: Sequence[Annotation]) -> tuple[list[str], tuple[str, ...]]:
    """Return the image of each XML file: of its own stem where there is one, else as it says; and what should be said.

    Raises:
        InputError: an image that is not there, or that two files claim.
    """
    there = set(image_names(own.images, own.images)) if is_folder(own.images) else set[str]()
    by_stem: dict[str, list[str]] = {}
    for name in sorted(there):
        by_stem.setdefault(name.rpartition(".")[0], []).append(name)
    names: list[str] = []
    others: list[str] = []
    for stem, annotation in zip(own.stems, found, strict=True):
        stated = annotation.file_name or ""
        same_stem = by_stem.get(stem) or by_stem.get(last_part(stem)) or []
        if same_stem:
            name = next((name for name in same_stem if last_part(name) == last_part(stated)), same_stem[0])
            if stated and stated not in (name, last_part(name), stem, last_part(stem)):
                others.append(f"{stem}.xml says {stated!r}")
        else:
            name = _stated(path, own, stem, stated, there)
        names.append(name)
    claimed = {name for name, count in Counter(names).items() if count > 1}
    if claimed:
        name = min(claimed)
        by = [f"{stem}.xml" for stem, own_name in zip(own.stems, names, strict=True) if own_name == name]
        raise InputError(f"{path}: image {name!r} is claimed by {' and '.join(by[:4])}; mend their <filename>")
    if not others:
        return names, ()
    files = counted(len(others), "file")
    return names, (
        f"{path}: {files} whose <filename> is not the image of their own name, which is taken (first: {others[0]})",
    )


def _stated(path: Path, own: Layout, stem: str, stated: str, there: set[str]) -> str:
    """The image that a file names where there is none of its own stem."""
    parent = stem.rpartition("/")[0]
    choices = [f"{parent}/{stated}" if parent else stated, stated, last_part(stated)]
    for name in choices:
        if name in there or (name and not leaves(name) and is_file(own.images / name)):
            return name
    if stated and leaves(stated):
        raise InputError(f"{path}: image name {stated!r} of {stem}.xml leaves the data set's folder; {HELP}")
    shown = stated or f"{stem}.jpg"
    raise InputError(f"{path}: image {shown!r} of {stem}.xml is not in {own.images}; name its folder with --images")


def _is_list(path: Path) -> bool:
    """Whether a path names a split by its list, such as ImageSets/Main/trainval.txt."""
    return path.suffix == ".txt" and path.parent.parent.name == "ImageSets" and is_file(path)


def _of_list(file: Path, folder: Path, images: Path | None, notes: tuple[str, ...]) -> Layout:
    annotations = next((folder / name for name in _XML_FOLDERS if (folder / name).is_dir()), folder)
    stems, twice = _listed(file, annotations)
    own = {annotations / f"{stem}.xml" for stem in stems}
    others = [file for file in annotations.rglob("*.xml") if file not in own]
    return Layout(annotations, images or _image_folder(folder), stems, others, (*notes, *twice))


def _listed(file: Path, annotations: Path) -> tuple[list[str], tuple[str, ...]]:
    """The stems that a list names, each once: the whole line where there is such a file, spaces and all."""
    lines = [line.strip() for line in file.read_text("utf-8-sig", "replace").splitlines() if line.strip()]
    check_names(file, lines)
    stems = [_stem(file, line.replace("\\", "/"), annotations) for line in lines]
    once = list(dict.fromkeys(stems))
    if again := len(stems) - len(once):
        return once, (f"{file}: {counted(again, 'image')} listed twice, read once",)
    return once, ()


def _stem(file: Path, line: str, annotations: Path) -> str:
    """The XML file that a line means: its own, or that of the image and, behind it, the XML file that it names."""
    first, _, last = line.rpartition(" ")
    shorter = [line, first.strip()] if last in ("-1", "0", "1") else [line]
    shorter += line.split()
    known = {*SUFFIXES, ".xml"}
    shorter += [Path(text).with_suffix("").as_posix() for text in shorter if Path(text).suffix.lower() in known]
    for text in (*shorter, *(last_part(text) for text in shorter)):
        if text and is_file(annotations / f"{text}.xml"):
            return text
    missing = annotations / f"{line.split()[0][:200]}.xml"
    raise InputError(f"{missing}: cannot be read (no such file); {file} names it: add it, or mend its line")


def _split_folders(path: Path) -> dict[str, Path]:
    """Folders called like splits that hold XML files; none where the XML files lie in a folder of their own."""
    if any((path / name).is_dir() for name in _XML_FOLDERS):
        return {}
    inside = sorted(entry for entry in path.iterdir() if entry.is_dir() and is_split(entry.name))
    return {entry.name: entry for entry in inside if next(entry.rglob("*.xml"), None) is not None}


def _xml_files(folder: Path) -> Iterator[Path]:
    return folder.glob("*.xml") if folder.is_dir() else iter(())


def _image_folder(base: Path) -> Path:
    return next((base / name for name in _IMAGE_FOLDERS if (base / name).is_dir()), base)
