"""The index: slices, subsets, labels by name, packed names."""

import pickle

import numpy as np
import pytest

from kdet.data import DetectionIndex, ShapesSource
from kdet.data.index import Names
from kdet.errors import InputError


def test_objects_are_the_slices_of_the_columns(shapes: ShapesSource):
    index = shapes.index
    assert index.offsets[0] == 0
    assert index.offsets[-1] == len(index.boxes_xyxy)
    rebuilt = np.concatenate([index.objects(i).boxes_xyxy for i in range(len(index))])
    np.testing.assert_array_equal(rebuilt, index.boxes_xyxy)
    assert any(len(index.objects(i).labels) == 0 for i in range(len(index)))


def test_subset_keeps_order_and_repeats(shapes: ShapesSource):
    index = shapes.index
    rows = [5, 0, 5, 11]
    part = index.subset(rows)
    assert len(part) == 4
    for place, row in enumerate(rows):
        assert part.file_names[place] == index.file_names[row]
        assert part.image_ids[place] == index.image_ids[row]
        np.testing.assert_array_equal(part.objects(place).boxes_xyxy, index.objects(row).boxes_xyxy)
        np.testing.assert_array_equal(part.objects(place).labels, index.objects(row).labels)


def test_empty_subset(shapes: ShapesSource):
    part = shapes.index.subset([])
    assert len(part) == 0
    assert part.boxes_xyxy.shape == (0, 4)


def test_relabelled_matches_by_name_whatever_the_order(shapes: ShapesSource):
    model = ["__background__", "triangle", "N/A", "circle", "square", "N/A"]
    moved = shapes.index.relabelled(model)
    assert moved.classes == tuple(model)
    for before, after in zip(shapes.index.labels, moved.labels, strict=True):
        assert model[after] == shapes.index.classes[before]


def test_relabelled_names_both_lists_when_a_class_is_missing(shapes: ShapesSource):
    with pytest.raises(InputError, match=r"does not know: \['square'\].*circle.*model has \['circle', 'triangle'\]"):
        shapes.index.relabelled(["circle", "triangle"])


def test_relabelled_refuses_boxes_of_no_class(shapes: ShapesSource):
    index = shapes.index
    fields = {name: getattr(index, name) for name in index.__dataclass_fields__}
    unnamed = DetectionIndex(**(fields | {"classes": ("background", "square", "triangle")}))
    with pytest.raises(InputError, match="'background', which stands for no object"):
        unnamed.relabelled(["square", "triangle"])


def test_class_counts_add_up(shapes: ShapesSource):
    counts = shapes.index.class_counts()
    assert list(counts) == ["circle", "square", "triangle"]
    assert sum(counts.values()) == len(shapes.index.labels)


def test_pickle_is_as_small_as_the_columns(shapes: ShapesSource):
    index = shapes.index.subset(np.arange(12).repeat(500))
    data = pickle.dumps(index, protocol=5)
    columns = [getattr(index, name) for name in index.__dataclass_fields__]
    size = sum(column.nbytes for column in columns if isinstance(column, np.ndarray))
    size += index.file_names.text.nbytes + index.file_names.offsets.nbytes
    assert len(data) < size + 5000
    again = pickle.loads(data)
    assert again.file_names[4321] == index.file_names[4321]


def test_names_hold_any_text():
    strings = ["a.jpg", "", "Größe/世界.png", "undecodable \udcff.png", "lone \ud800"]
    names = Names.of(strings)
    assert [names[i] for i in range(len(names))] == strings
    assert names[-1] == strings[-1]
    with pytest.raises(IndexError):
        names[5]


def test_no_names():
    assert len(Names.of([])) == 0
