"""Memory stays within a few times the file: bombs of every kind, scaled down, in a process with little of it."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import yolo_cases
from coco_cases import BOX, CAT, IMAGE, data_set
from hostile_cases import put, read_or_refuse

from kdet.data import open_source
from patience import PATIENCE_S


def coco_of(boxes: int) -> str:
    """An annotation file that claims so many boxes on one image."""
    entries = ", ".join(json.dumps(BOX | {"id": i + 1}) for i in range(boxes))
    return f'{{"images": [{json.dumps(IMAGE)}], "categories": [{json.dumps(CAT)}], "annotations": [{entries}]}}'


def peak_of(file: Path, format: str) -> int:
    """Bytes at most, beside what was there before."""
    tracemalloc.start()
    try:
        read_or_refuse(lambda: open_source(format, file))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_coco_takes_a_few_times_its_file(tmp_path: Path) -> None:
    file = data_set(tmp_path, coco_of(20_000))
    assert peak_of(file, "coco") < 5 * file.stat().st_size


def test_yolo_takes_a_few_times_its_labels(tmp_path: Path) -> None:
    file = yolo_cases.data_set(tmp_path, labels="0 .5 .5 .2 .2\n" * 20_000)
    size = (tmp_path / yolo_cases.LABEL).stat().st_size
    assert peak_of(file, "yolo") < 60 * size  # of at most 16 MiB


LIMITED = """
import resource, sys
from pathlib import Path
from kdet.data import open_source
from kdet.errors import InputError
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[2]),) * 2)
try:
    open_source("coco", Path(sys.argv[1]))
except InputError as problem:
    print(problem)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.long
def test_a_file_larger_than_the_memory_is_refused_by_one_line(tmp_path: Path) -> None:
    file = put(tmp_path / "a.json", "[" + "{}," * 10_000_000 + "{}]")
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(file), str(200 * 2**20)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "a.json: too large for the memory of this machine" in ended.stdout and ended.stdout.count("\n") == 1
