"""Large annotation files: read by blocks as record by record, held in columns, shared by loader workers."""

import json
import multiprocessing
import subprocess
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_cases import annotation
from torch.utils.data import DataLoader, Dataset

from kdet.data import DetectionDataset, DetectionIndex, FileSource, Pipeline
from kdet.data.formats.coco import parse as coco_parse
from kdet.data.formats.coco.records import Records
from kdet.data.index import Names
from kdet.errors import InputError
from patience import PATIENCE_S

Make = Callable[..., Path]
IMAGES = [
    {"id": 10 * k, "file_name": f'{k} "}}, {{".png', "width": 40, "height": 30, "tags": [{}, {}]} for k in range(300)
]
ANNOTATIONS = [
    annotation(
        k + 1,
        image_id=10 * (k % 300),
        bbox=[k % 7, 1.5, 10 + k / 1000, 1e1],
        segmentation=[[1, 2, 3, 4]] if k % 2 else {"counts": [1, 2], "size": [3, 4]},
        attributes={"parts": [{"a": 1}, {"b": "}, {"}], "note": 'a "quoted" \\ brace }, {'},
        **({"area": k / 3} if k % 5 else {}),
        iscrowd=[0, 1, False, True][k % 4],
    )
    for k in range(1500)
]


def columns(records: Records) -> dict[str, Any]:
    """All that was taken, comparable (NaN is not equal to itself)."""
    values = {name: value for name, value in vars(records).items() if name != "file"}
    return {name: value.tobytes() if isinstance(value, array) else value for name, value in values.items()}


@pytest.mark.parametrize("block", [700, 5000, 2**22])
@pytest.mark.parametrize("style", [{}, {"indent": 1}, {"separators": (",", ":")}])
def test_blocks_give_what_record_by_record_gives(coco_file: Make, monkeypatch: Any, block: int, style: Any):
    file = coco_file(images=IMAGES, annotations=ANNOTATIONS)
    file.write_text(json.dumps(json.loads(file.read_text()), ensure_ascii=False, **style))
    monkeypatch.setattr(coco_parse, "_BLOCK", block)
    by_blocks = coco_parse._by_blocks(file)
    assert len(by_blocks.ids) == 1500
    assert columns(by_blocks) == columns(coco_parse._record_by_record(file))


@pytest.mark.parametrize(
    "parts",
    [
        {"annotations": [{key: value for key, value in annotation(1).items() if key != "id"}]},
        {"annotations": [annotation(1, area=float("nan"))]},
        {"annotations": [annotation(1, iscrowd=None)]},
        {"info": {"version": float("inf")}},
    ],
)
def test_what_is_rare_is_read_all_the_same(coco_file: Make, parts: dict[str, Any]):
    file = coco_file(**parts)
    expected = coco_parse._record_by_record(file)
    assert columns(coco_parse.parse(file)) == columns(expected)


def test_a_bad_record_behind_many_good_ones_is_named(coco_file: Make, monkeypatch: Any):
    monkeypatch.setattr(coco_parse, "_BLOCK", 2000)
    for bad in ({"bbox": [1, 2, 3]}, {"image_id": [10]}, {"category_id": 2**70}):
        file = coco_file(images=IMAGES, annotations=[*ANNOTATIONS, annotation(9999, **bad)])
        with pytest.raises(InputError, match=r"annotation 9999 needs (four numbers|a whole number)"):
            coco_parse.parse(file)


def test_a_cut_file_is_no_json(coco_file: Make):
    file = coco_file(annotations=ANNOTATIONS[:50])
    file.write_bytes(file.read_bytes()[:-400])
    with pytest.raises(InputError, match="not JSON"):
        coco_parse.parse(file)


def many(images: int, boxes_each: int) -> DetectionIndex:
    """An index of so many images, without files."""
    count = images * boxes_each
    return DetectionIndex(
        root=Path("nowhere"),
        classes=("dog",),
        image_ids=np.arange(images),
        file_names=Names.of(f"{i:012}.jpg" for i in range(images)),
        sizes_hw=np.full((images, 2), 64, np.int32),
        boxes_xyxy=np.tile(np.array([1, 2, 30, 40], np.float32), (count, 1)),
        labels=np.zeros(count, np.int32),
        crowd=np.zeros(count, bool),
        areas=np.full(count, 1102, np.float32),
        offsets=np.arange(images + 1) * boxes_each,
    )


class PrivateMemory(Dataset[int]):
    """Reads the objects and the name of an image; an item is what its process holds for itself alone, in KiB."""

    def __init__(self, dataset: DetectionDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, rows: list[int]) -> list[int]:
        for row in rows:
            assert len(self.dataset.target(row)["boxes"]) == 10
            assert self.dataset.source.index.file_names[row]
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return [int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")]


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists() or multiprocessing.get_start_method() != "fork",
    reason="needs Linux' count of private memory, and workers that are forked",
)
def test_workers_share_the_index():
    index = many(images=50_000, boxes_each=10)
    dataset = PrivateMemory(DetectionDataset(FileSource(index), Pipeline(64)))
    loader = DataLoader(dataset, batch_size=500, shuffle=True, num_workers=1, collate_fn=list)
    held = [kib for batch in loader for kib in batch]
    assert len(held) == 100
    # A copy of the index would be 18 MiB, a Python object for each box 30 and more.
    assert held[-1] - held[0] < 4 * 1024, f"grew from {held[0]} to {held[-1]} KiB"


OPEN = """
import gc, json, sys
from pathlib import Path
from kdet.data.formats.coco import reader as coco

def kib(key: str) -> int:
    return int(next(l for l in open("/proc/self/status") if l.startswith(key)).split()[1])

before = kib("VmRSS")
index = coco.read(Path(sys.argv[1]))
gc.collect()
peak = kib("VmHWM")  # ru_maxrss would begin with the size of the process that started this one
print(json.dumps([len(index), len(index.labels), (peak - before) / 1024, (kib("VmRSS") - before) / 1024]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux counts it")
def test_a_million_boxes_open_in_little_memory(tmp_path: Path):
    images, boxes = 100_000, 1_000_000
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0").mkdir()
    for k in range(1000):
        (tmp_path / "images" / "0" / f"{k}.jpg").touch()
    for k in range(1, 100):
        (tmp_path / "images" / str(k)).symlink_to(tmp_path / "images" / "0", target_is_directory=True)
    names = (
        f'{{"id": {i}, "file_name": "{i // 1000}/{i % 1000}.jpg", "width": 640, "height": 480}}' for i in range(images)
    )
    box = '"bbox": [10.25, 20.5, 100.75, 60.125], "category_id": 1, "area": 6057.6, "iscrowd": 0'
    with (tmp_path / "annotations_train.json").open("w") as file:
        file.write('{"categories": [{"id": 1, "name": "dog"}], "images": [' + ", ".join(names) + '], "annotations": [')
        file.write(", ".join(f'{{"id": {k}, "image_id": {k % images}, {box}}}' for k in range(boxes)) + "]}")
    command = [sys.executable, "-c", OPEN, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    num_images, num_boxes, peak_mib, held_mib = json.loads(done.stdout)
    assert (num_images, num_boxes) == (images, boxes)
    # A tenth of 3 GB at the peak. Afterwards the index itself is 32 MiB; the C library keeps up to twice its mmap
    # threshold (32 MiB) of what was freed, whatever the size of the file, so that a tenth of 1 GB would measure that.
    assert peak_mib < 300
    assert held_mib < 32 + 100
