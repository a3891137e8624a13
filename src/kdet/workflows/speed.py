"""How fast, how large, how hungry: trained detectors side by side on this machine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from kdet.data import Pipeline, Shapes, ShapesSource, collate
from kdet.errors import InputError
from kdet.files import is_folder, parse_json, read_text
from kdet.train.state.run_folder import BEST, METRICS
from kdet.types import Batch, Canvas, Detector, ImageSize, Sample, Target
from kdet.workflows.compare.rounds import peak_memory
from kdet.workflows.compare.workers import processes
from kdet.workflows.models import open_to_run, precision_of

_PICTURES = 8
_DRAWN_PX = 256
"""Longest side at which pictures are drawn; larger ones would take longer to draw than to measure."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One detector on this machine, from pixels of its input size to boxes after NMS."""

    model: str
    family: str
    device: str
    """What it ran on; exported files run on the processor."""
    precision: str
    """Precision in which it computed there: fp32, tf32 (convolutions of a GPU), bf16, fp16 or int8."""
    ap: float | None
    """AP that its run or its export measured on its own images; None where neither says, or for another precision."""
    image_size: ImageSize
    parameters: int | None
    """None of an exported file, like its FLOPs: only its toolkit sees them."""
    flops: int | None
    """FLOPs of one image: two for a multiplication with its addition, in convolutions and matrix products."""
    file_bytes: int
    latency_ms: float
    """Median latency of one image."""
    latency_p90_ms: float
    """Nine of ten images take no longer."""
    images_per_second: float
    """Images per second in batches."""
    peak_bytes: int | None
    """What the model and one image add to the memory of a fresh process, on the device that it runs on."""


def measure(
    models: Sequence[Path],
    *,
    image_size: ImageSize | None = None,
    batch: int = 8,
    seconds: float = 5.0,
    memory: bool = True,
    device: str | None = None,
    in_fp32: bool = True,
) -> list[Speed]:
    """Measure detectors in turns, so that whatever else the machine does hits all of them.

    Args:
        models: run folders, weights files or exported files.
        image_size: for all of them; None = each at its own.
        batch: images at a time where throughput is measured.
        seconds: of measuring for each detector, about.
        memory: whether to measure the peak, too, for which each is opened in a process of its own.
        device: "cpu" or "cuda"; None = the GPU where there is one.
        in_fp32: whether the toolkits of exported files compute in float32; else as they choose on this processor.

    Returns:
        One Speed for each model, in their order.

    Raises:
        InputError: no such model, or one without detections, or no GPU where one is wanted.
    """
    if batch < 1 or seconds <= 0:
        raise InputError(
            f"--batch-size {batch}, --seconds {seconds:g}: expected a batch of at least 1 and a time above 0"
        )
    detectors, devices = zip(*(_ready(path, device, in_fp32) for path in models), strict=True)
    sizes = [image_size or detector.image_size for detector in detectors]
    canvases = [detector.canvas for detector in detectors]
    ones = [_pictures(*each, 1) for each in zip(sizes, canvases, devices, strict=True)]
    many = [_pictures(*each, batch) for each in zip(sizes, canvases, devices, strict=True)]
    pairs = list(zip(detectors, ones, many, strict=True))
    latency = _in_turns([lambda d=d, b=b: d.predict(b) for d, b, _ in pairs], seconds * len(models) / 2)
    throughput = _in_turns([lambda d=d, b=b: d.predict(b) for d, _, b in pairs], seconds * len(models) / 2)
    return [
        Speed(
            model=str(path),
            family=detector.family,
            device=torch.cuda.get_device_name() if devices[i] == "cuda" else "CPU",
            precision=precision_of(detector, devices[i]),
            ap=_ap_of(path, precision_of(detector, devices[i])),
            image_size=size,
            parameters=sum(parameter.numel() for parameter in detector.model.parameters()) or None,
            flops=flops_of(detector, one) or None,
            file_bytes=_bytes_of(path),
            latency_ms=1e3 * median(latency[i]),
            latency_p90_ms=1e3 * quantiles(latency[i], n=10)[-1],
            images_per_second=batch / median(throughput[i]),
            peak_bytes=_peak_in_a_fresh_process(path, size, canvases[i], device, in_fp32) if memory else None,
        )
        for i, (path, detector, size, one) in enumerate(zip(models, detectors, sizes, ones, strict=True))
    ]


def as_json(speeds: Sequence[Speed]) -> dict[str, Any]:
    """Return the numbers for a program; where and how it was measured stands beside them."""
    about = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    return {"models": [asdict(speed) for speed in speeds], **about}


def flops_of(detector: Detector, one: Batch) -> int:
    """Return the floating-point operations of one image, convolutions and matrix products alone."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        detector.predict(one)
    return int(counter.get_total_flops())


def _in_turns(jobs: Sequence[Callable[[], object]], seconds: float) -> list[list[float]]:
    """Seconds of every call, the first of each job left out; at least five, and as many as fit."""
    taken: list[list[float]] = [[] for _ in jobs]
    began, rounds = time.perf_counter(), 0
    with torch.no_grad():
        while rounds <= 5 or time.perf_counter() - began < seconds:
            for i, job in enumerate(jobs):
                started = time.perf_counter()
                job()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if rounds:
                    taken[i].append(time.perf_counter() - started)
            rounds += 1
    return taken


def _ready(path: Path, device: str | None, in_fp32: bool) -> tuple[Detector, str]:
    detector, device = open_to_run(path, device, in_fp32=in_fp32)
    if not detector.predicts:
        raise InputError(f"{path}: {detector.family} gives features alone, so there is nothing to time")
    detector.model.eval()
    return detector, device


def _pictures(size: ImageSize, canvas: Canvas, device: str, count: int) -> Batch:
    """Generated scenes at the network's size: NMS takes as long as there are boxes, and noise has none."""
    side = size if isinstance(size, int) else size[0]
    source = ShapesSource(Shapes(val_images=_PICTURES, image_size=min(_DRAWN_PX, side)), split="val")
    pipeline = Pipeline(size, canvas=canvas)
    nothing = Target(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    samples: list[Sample] = []
    for i in range(count):
        image: Tensor = pipeline(source.read(i % _PICTURES), nothing)[0]
        hw = (image.shape[-2], image.shape[-1])
        sample = Sample(image=image, target=nothing, image_id=i, original_size_hw=hw, canvas_hw=pipeline.canvas_hw)
        samples.append(sample)
    return collate(samples).to(device)


def _ap_of(path: Path, precision: str) -> float | None:
    """Look up the AP of the measured weights: a run's best epoch, or what is written beside a file."""
    text = read_text(path / METRICS if is_folder(path) else path.with_name(f"{path.name}.json"))
    if text is None:
        return None
    found: Any = parse_json(text, str(path))
    try:
        if is_folder(path):
            return float(found["best"]["AP"])
        return float(found["AP"]["file"]) if found["AP"]["precision"] == precision else None
    except (KeyError, TypeError, ValueError):  # another file that happens to lie there
        return None


def _bytes_of(path: Path) -> int:
    """OpenVINO's weights lie beside its file."""
    if is_folder(path):
        return (path / BEST).stat().st_size
    beside = path.with_suffix(".bin")
    return path.stat().st_size + (beside.stat().st_size if path.suffix == ".xml" and beside.exists() else 0)


def _peak_in_a_fresh_process(
    path: Path, size: ImageSize, canvas: Canvas, device: str | None, in_fp32: bool
) -> int | None:
    with processes(1, threads=torch.get_num_threads()) as pool:
        return pool.submit(_peak, path, size, canvas, device, in_fp32).result()


def _peak(path: Path, size: ImageSize, canvas: Canvas, device: str | None, in_fp32: bool) -> int | None:
    """Measure the peak of main or GPU memory beyond what was held before the model was there."""
    one = _pictures(size, canvas, "cpu", 1)
    before = {where: peak_memory(where) for where in ("cpu", "cuda")}
    detector, device = _ready(path, device, in_fp32)
    with torch.no_grad():
        detector.predict(one.to(device))
    before, after = before[device], peak_memory(device)
    return None if before is None or after is None else after - before
