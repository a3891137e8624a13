"""Fetch and unpack the papers' data sets: `python recipes/papers/prepare.py coco voc --to ../data`.

COCO 2017 (19 GB to fetch, as much again unpacked) and Pascal VOC 2007 and 2012 (3 GB). A broken download goes on where
it ended, a finished one is checked against its MD5 sum, and what is unpacked already is left alone. Archives may be put
into the folder by hand as well. Python alone is needed, nothing of kdet.
"""

import argparse
import hashlib
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A file to fetch."""

    url: str
    md5: str
    unpacked: str
    """A file or folder that it brings, relative to its data set's folder."""

    @property
    def name(self) -> str:
        """Of the file."""
        return self.url.rpartition("/")[2]


_COCO, _VOC = "http://images.cocodataset.org", "http://host.robots.ox.ac.uk/pascal/VOC"
DATA_SETS: dict[str, tuple[Archive, ...]] = {
    "coco": (
        Archive(
            f"{_COCO}/annotations/annotations_trainval2017.zip",
            "f4bbac642086de4f52a3fdda2de5fa2c",
            "annotations/instances_train2017.json",
        ),
        Archive(f"{_COCO}/zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", "val2017"),
        Archive(f"{_COCO}/zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", "train2017"),
    ),
    "voc": (
        Archive(
            f"{_VOC}/voc2007/VOCtrainval_06-Nov-2007.tar",
            "c52e279531787c972589f7e41ab4ae64",
            "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt",
        ),
        Archive(
            f"{_VOC}/voc2007/VOCtest_06-Nov-2007.tar",
            "b6e924de25625d8de591ea690078ad9f",
            "VOCdevkit/VOC2007/ImageSets/Main/test.txt",
        ),
        Archive(
            f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar",
            "6cd6e144f989b92b3379bac3b3de84fd",
            "VOCdevkit/VOC2012/ImageSets/Main/trainval.txt",
        ),
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0, or 2 with one line."""
    parser = argparse.ArgumentParser(description="Fetch and unpack the papers' data sets.")
    parser.add_argument("data_sets", nargs="+", choices=DATA_SETS, metavar="DATA-SET", help=", ".join(DATA_SETS))
    parser.add_argument("--to", type=Path, default=Path("../data"), help="folder of all data sets (%(default)s)")
    given = parser.parse_args(arguments)
    try:
        for name in given.data_sets:
            prepare(DATA_SETS[name], given.to / name)
    except (OSError, ValueError, zipfile.BadZipFile, tarfile.TarError) as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 2
    return 0


def prepare(archives: tuple[Archive, ...], folder: Path) -> None:
    """Everything of one data set; what is there is left as it is.

    Raises:
        OSError: no connection, or no room.
        ValueError: an archive that is not what it should be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for archive in archives:
        done = folder / f".{archive.name}.unpacked"
        if done.exists() and (folder / archive.unpacked).exists():
            print(f"{folder / archive.unpacked}: is there")
            continue
        file = fetched(archive, folder)
        print(f"{file}: unpacking")
        unpack(file, folder)
        if not (folder / archive.unpacked).exists():
            raise ValueError(f"{file}: brought no {archive.unpacked}")
        done.touch()


def fetched(archive: Archive, folder: Path) -> Path:
    """The whole archive, whose sum was checked.

    Raises:
        OSError: it cannot be fetched.
        ValueError: another sum.
    """
    file, part = folder / archive.name, folder / f"{archive.name}.part"
    if not file.exists():
        download(archive.url, part)
        part.rename(file)
    if (found := md5(file)) != archive.md5:
        raise ValueError(f"{file}: MD5 {found}, expected {archive.md5}; delete the file and start again")
    return file


def download(url: str, part: Path) -> None:
    """Fetch into a file, going on behind what it holds already."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    print(f"{url}: {'going on behind ' + str(start) + ' bytes' if start else 'fetching'}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            goes_on = answer.status == 206
            with part.open("ab" if goes_on else "wb") as out:
                while chunk := answer.read(CHUNK):
                    out.write(chunk)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416:  # nothing is left to fetch
            raise OSError(f"{url}: {error}; start again later, or put the file there by hand") from None
    except urllib.error.URLError as error:
        raise OSError(f"{url}: {error.reason}; start again later, or put the file there by hand") from None


def md5(file: Path) -> str:
    """The file's sum."""
    found = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def unpack(file: Path, folder: Path) -> None:
    """Into the folder, and nowhere else."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as whole:
            whole.extractall(folder)
    else:
        with tarfile.open(file) as whole:
            whole.extractall(folder, filter="data")


if __name__ == "__main__":
    sys.exit(main())
