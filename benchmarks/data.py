"""How large annotation files are opened, and what loader workers cost; beside pycocotools and torchvision.

    python benchmarks/data.py --images 1000000 --boxes 10000000 --out benchmarks/results/data-cpu.json

An annotation file is generated, and folders in which its images stand: kdet looks whether they are there, the others
do not. The folders are links to one of a thousand empty files, for a million files take minutes to make and to remove.
Every figure comes from a fresh process: seconds to open the file, by the clock and of the processor, the process' peak
and what it holds afterwards, its imports included. Then two loader workers read the annotations of every image in
random order; what they hold for themselves is looked at after their first batch and after their last. Images per second
are measured on JPEGs with equal work: decode, flip, resize, pad. The run ends with the bars, met or missed. Linux only.
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import verdict, whereabouts
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection
from torchvision.transforms import v2

from kdet.data import Augmentation, DetectionDataset, EpochSampler, FileSource, Pipeline, make_loader
from kdet.data.formats.coco import reader as coco
from kdet.ops.canvas import padded_hw

OPENERS = ("kdet", "pycocotools", "faster-coco-eval", "torchvision")
CLASSES, HEIGHT, WIDTH = 80, 480, 640
POOL, IN_A_FOLDER = 100_000, 1000
BATCH, IMAGE_SIZE = 8, 320
Jobs = dict[str, Callable[[], None]]


def generate(folder: Path, images: int, boxes: int) -> Path:
    """An annotation file of about 130 bytes a box, written a block at a time, and a name in a folder for each image.

    The boxes of a block stand in the next one again, under other ids and on other images.
    """
    draw = np.random.default_rng(0)
    pool = [_record(*values) for values in draw.uniform(4, (WIDTH / 2, HEIGHT / 2) * 2, (POOL, 4)).round(2).tolist()]
    file = folder / "annotations_train.json"
    real = folder / "images" / "0000"
    real.mkdir(parents=True)
    for k in range(min(images, IN_A_FOLDER)):
        (real / f"{k:04}.jpg").touch()
    for k in range(1, -(-images // IN_A_FOLDER)):
        (folder / "images" / f"{k:04}").symlink_to(real, target_is_directory=True)
    categories = [{"id": k + 1, "name": f"class {k}"} for k in range(CLASSES)]
    with file.open("w", encoding="utf-8") as out:
        out.write('{"info": {}, "categories": ' + json.dumps(categories) + ', "images": [')
        for i in range(images):
            entry = {"license": 1, "file_name": name_of(i), "height": HEIGHT, "width": WIDTH, "id": i + 1}
            out.write((", " if i else "") + json.dumps(entry))
        out.write('], "annotations": [')
        for first in range(0, boxes, POOL):
            count = min(POOL, boxes - first)
            owners = draw.integers(1, images + 1, count).tolist()
            lines = zip(pool, owners, range(first + 1, first + count + 1), strict=False)
            out.write((", " if first else "") + ", ".join(f'{start}{of}, "id": {one}}}' for start, of, one in lines))
        out.write("]}")
    return file


def name_of(i: int) -> str:
    """Of image i, below images/."""
    return f"{i // IN_A_FOLDER:04}/{i % IN_A_FOLDER:04}.jpg"


def _record(x: float, y: float, width: float, height: float) -> str:
    """An annotation up to the number of its image."""
    about = {"area": round(width * height, 4), "iscrowd": 0, "bbox": [x, y, width, height]}
    return json.dumps(about | {"category_id": int(width) % CLASSES + 1})[:-1] + ', "image_id": '


def opened(opener: str, file: Path) -> Any:
    """What a library makes of the file, as a user would open it."""
    if opener == "kdet":
        return coco.read(file)
    with redirect_stdout(StringIO()):
        if opener == "torchvision":
            return CocoDetection(str(file.parent / "images"), str(file))
        if opener == "pycocotools":
            from pycocotools.coco import COCO
        else:
            from faster_coco_eval import COCO
        return COCO(str(file))


def measure(opener: str, file: Path, workers: int) -> dict[str, Any]:
    """Of this process, which is fresh: opening, then two workers."""
    imports = kib("VmRSS", "status")
    begin, cpu = time.perf_counter(), time.process_time()
    found = opened(opener, file)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
    peak = kib("VmHWM", "status")  # ru_maxrss begins with the size of the process that started this one
    gc.collect()
    after = kib("VmRSS", "status")
    row: dict[str, Any] = {"opener": opener, "seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2)}
    row |= {"imports_mib": round(imports / 1024), "peak_mib": round(peak / 1024), "after_mib": round(after / 1024)}
    return row | (worker_memory(opener, found, workers) if workers else {})


class Annotations(Dataset[tuple[int, int]]):
    """The objects of each image, and for the benchmark what the reading process holds for itself alone."""

    def __init__(self, opener: str, found: Any) -> None:
        if opener == "kdet":
            self.read = DetectionDataset(FileSource(found), Pipeline(IMAGE_SIZE)).target
            self.length = len(found)
        else:
            self.read = partial(_annotations, getattr(found, "coco", found))
            self.length = len(getattr(found, "coco", found).imgs)

    def __len__(self) -> int:
        return self.length

    def __getitems__(self, rows: list[int]) -> list[tuple[int, int]]:
        for row in rows:
            self.read(row)
        worker = torch.utils.data.get_worker_info()
        return [(worker.id if worker else 0, kib("Private_Dirty", "smaps_rollup"))]


def _annotations(coco: Any, row: int) -> Any:
    """As torchvision's CocoDetection reads them."""
    return coco.loadAnns(coco.getAnnIds(row + 1))


def worker_memory(opener: str, found: Any, workers: int) -> dict[str, Any]:
    """What each worker holds for itself after its first batch and after its last, of a pass over every image."""
    dataset = Annotations(opener, found)
    torch.manual_seed(0)
    loader = DataLoader(dataset, batch_size=100, shuffle=True, num_workers=workers, collate_fn=list)
    held: dict[int, list[int]] = {}
    for worker, private in (item for batch in loader for item in batch):
        held.setdefault(worker, []).append(private)
    first, last = (max(series[place] for series in held.values()) / 1024 for place in (0, -1))
    return {"worker_first_mib": round(first, 1), "worker_last_mib": round(last, 1)}


def kib(key: str, file: str) -> int:
    """A figure of this process as the system counts it."""
    lines = Path(f"/proc/self/{file}").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


def in_a_fresh_process(opener: str, file: Path, workers: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", opener, str(file), str(workers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def jpegs(folder: Path, count: int) -> Path:
    """As many JPEGs of 640×480 with seven boxes each; at most a thousand."""
    draw = np.random.default_rng(0)
    file = generate(folder, count, 7 * count)
    for i in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8))
        coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(folder / "images" / name_of(i))
    return file


def kdet_loader(file: Path, workers: int) -> DataLoader[Any]:
    dataset = DetectionDataset(FileSource(coco.read(file)), Pipeline(IMAGE_SIZE, Augmentation(flip=0.5)))
    return make_loader(dataset, EpochSampler(len(dataset), batch_size=BATCH), workers=workers)


class Torchvision(Dataset[tuple[torch.Tensor, dict[str, torch.Tensor]]]):
    """CocoDetection with the same work done by torchvision's own parts.

    Not `wrap_dataset_for_transforms_v2`: it wants a segmentation with every object.
    """

    def __init__(self, file: Path) -> None:
        self.images: CocoDetection = opened("torchvision", file)
        size = v2.Resize((IMAGE_SIZE * HEIGHT // WIDTH, IMAGE_SIZE), antialias=True)
        self.steps = v2.Compose(
            [v2.ToImage(), v2.RandomHorizontalFlip(0.5), size, v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes()]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        image, annotations = self.images[i]
        boxes = torch.tensor([entry["bbox"] for entry in annotations], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        given: Any = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(image.height, image.width))  # pyright: ignore[reportCallIssue]
        labels = torch.tensor([entry["category_id"] for entry in annotations])
        return self.steps(image, {"boxes": given, "labels": labels})


def padded(samples: list[tuple[torch.Tensor, dict[str, torch.Tensor]]]) -> Any:
    """One tensor of values 0…1, zero-padded to a multiple of 32."""
    height, width = padded_hw((max(i.shape[-2] for i, _ in samples), max(i.shape[-1] for i, _ in samples)))
    images = torch.zeros(len(samples), 3, height, width)
    for slot, (image, _) in zip(images, samples, strict=True):
        slot[:, : image.shape[-2], : image.shape[-1]] = image
    return images.div_(255), [target for _, target in samples]


def torchvision_loader(file: Path, workers: int) -> DataLoader[Any]:
    return DataLoader(
        Torchvision(file),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=padded,
        worker_init_fn=lambda _: torch.set_num_threads(1),
    )


def images_per_second(file: Path, workers: int, repeats: int) -> dict[str, float]:
    """Of whole epochs; the loaders take turns, the first of each warms up, the median counts."""
    loaders = {"kdet": kdet_loader(file, workers), "torchvision": torchvision_loader(file, workers)}
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for turn in range(repeats + 1):
        for name, loader in loaders.items():
            begin = time.perf_counter()
            count = sum(BATCH for _ in loader)
            if turn:
                rates[name].append(count / (time.perf_counter() - begin))
    return {name: round(statistics.median(values), 1) for name, values in rates.items()}


def bars(result: dict[str, Any]) -> Iterator[tuple[str, float, str, float]]:
    """What is measured, its value, and the limit that it must not pass; GB are 10⁹ bytes."""
    rows = result["opening"]
    own, boxes = next(row for row in rows if row["opener"] == "kdet"), f"{result['boxes']:,} boxes"
    seconds = {
        name: statistics.median(row["cpu_seconds"] for row in rows if row["opener"] == name)
        for name in dict.fromkeys(row["opener"] for row in rows)
    }
    yield f"peak while opening {boxes}, GB", own["peak_mib"] * 2**20 / 1e9, "<=", 3
    yield f"held afterwards, {boxes}, GB", own["after_mib"] * 2**20 / 1e9, "<=", 1
    for name in seconds.keys() - {"kdet", "torchvision"}:
        yield f"processor seconds to open: {name} / kdet", seconds[name] / seconds["kdet"], ">=", 3
    if "worker_last_mib" in own:
        grown = own["worker_last_mib"] - own["worker_first_mib"]
        yield "growth of a worker over a pass, MiB", grown, "<=", 10
    for workers, rates in result["images_per_second"].items():
        yield f"images/s, {workers} workers: kdet / torchvision", rates["kdet"] / rates["torchvision"], ">=", 1


def main() -> None:
    """Generate, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--boxes", type=int, default=100_000)
    parser.add_argument("--openers", nargs="+", choices=OPENERS, default=OPENERS)
    parser.add_argument("--rounds", type=int, default=1, help="turns of the openers; the bars take medians")
    parser.add_argument("--own-workers", action="store_true", help="workers of kdet alone; the others' may need 10 GB")
    parser.add_argument("--jpegs", type=int, default=400, help="images for images per second")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    parser.add_argument("--measure", nargs=3, metavar=("OPENER", "FILE", "WORKERS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.measure:
        opener, file, workers = options.measure
        print(json.dumps(measure(opener, Path(file), int(workers))))
        return
    about = whereabouts()  # now: the commit may be another when it ends
    result: dict[str, Any] = {"images": options.images, "boxes": options.boxes, "opening": []}
    with tempfile.TemporaryDirectory() as folder:
        file = generate(Path(folder, "large"), options.images, options.boxes)
        result["file_mb"] = round(file.stat().st_size / 1e6)
        for opener in options.openers * options.rounds:
            known = any(row["opener"] == opener for row in result["opening"])
            workers = 0 if known or (options.own_workers and opener != "kdet") else 2
            row = in_a_fresh_process(opener, file, workers)
            print(json.dumps(row), flush=True)
            result["opening"].append(row)
        real = jpegs(Path(folder, "jpegs"), options.jpegs)
        result["images_per_second"] = {str(workers): images_per_second(real, workers, 5) for workers in (0, 2)}
    result["bars"] = [verdict(*bar) for bar in bars(result)]
    print("\n".join([json.dumps(result["images_per_second"]), *result["bars"]]))
    if options.out:
        options.out.write_text(json.dumps(result | {"environment": about}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
