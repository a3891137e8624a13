"""Files ⇄ samples: readers and writers of detection data sets, the generated shapes, augmentation, batches."""

from kdet.data.checks.grouped import divided
from kdet.data.checks.headers import look
from kdet.data.checks.inspect import inspect
from kdet.data.checks.leaks import leak
from kdet.data.convert import convert
from kdet.data.dataset import DetectionDataset
from kdet.data.formats.model_labels import is_labelled_by_a_model, open_model_labels, write_record
from kdet.data.formats.table import FORMATS, Format, open_source, recognise
from kdet.data.formats.validate import OnBadBox
from kdet.data.formats.voc.reader import FirstPixel
from kdet.data.images import read_image
from kdet.data.index import DetectionIndex, Objects
from kdet.data.joining import concatenated
from kdet.data.loader import EpochSampler, collate, evaluation_batches, make_loader
from kdet.data.resize import image_size_of, resize
from kdet.data.shapes.generator import Shapes, ShapesSource
from kdet.data.source import FileSource, IndexedSource, Source
from kdet.data.subset import rest_of, share_of, split_off, taken
from kdet.data.transforms import NO_AUGMENTATION, Augmentation, Pipeline
from kdet.data.unlabelled import Joined, image_folder, joined, with_objects, without_labels

__all__ = [
    "FORMATS",
    "NO_AUGMENTATION",
    "Augmentation",
    "DetectionDataset",
    "DetectionIndex",
    "EpochSampler",
    "FileSource",
    "FirstPixel",
    "Format",
    "IndexedSource",
    "Joined",
    "Objects",
    "OnBadBox",
    "Pipeline",
    "Shapes",
    "ShapesSource",
    "Source",
    "collate",
    "concatenated",
    "convert",
    "divided",
    "evaluation_batches",
    "image_folder",
    "image_size_of",
    "inspect",
    "is_labelled_by_a_model",
    "joined",
    "leak",
    "look",
    "make_loader",
    "open_model_labels",
    "open_source",
    "read_image",
    "recognise",
    "resize",
    "rest_of",
    "share_of",
    "split_off",
    "taken",
    "with_objects",
    "without_labels",
    "write_record",
]
