"""Data sets with anything in them: refused by one line that names file and entry, or read as they are meant."""

from pathlib import Path

import coco_cases
import pytest
import voc_cases
import yolo_cases
from hostile_cases import assert_refused, deadline, pipe, read_everything

from kdet.data import open_source


@pytest.mark.parametrize("name", coco_cases.CASES)
def test_coco(tmp_path: Path, name: str) -> None:
    content, words = coco_cases.CASES[name]
    file = coco_cases.data_set(tmp_path, content)
    assert_refused(lambda: read_everything("coco", file), tmp_path, words)


@pytest.mark.parametrize("name", voc_cases.XML)
def test_voc(tmp_path: Path, name: str) -> None:
    content, words = voc_cases.XML[name]
    folder = voc_cases.data_set(tmp_path, content)
    assert_refused(lambda: read_everything("voc", folder), tmp_path, words)


@pytest.mark.parametrize("name", voc_cases.FOLDERS)
def test_voc_folder(tmp_path: Path, name: str) -> None:
    change, words = voc_cases.FOLDERS[name]
    change(voc_cases.data_set(tmp_path, voc_cases.GOOD))
    assert_refused(lambda: read_everything("voc", tmp_path), tmp_path, words)


@pytest.mark.parametrize("name", yolo_cases.SETTINGS)
def test_yolo_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    content, words = yolo_cases.SETTINGS[name]
    file = yolo_cases.data_set(tmp_path, content)
    assert_refused(lambda: read_everything("yolo", file), tmp_path, words)


@pytest.mark.parametrize("name", yolo_cases.LINES)
def test_yolo_labels(tmp_path: Path, name: str) -> None:
    content, words = yolo_cases.LINES[name]
    file = yolo_cases.data_set(tmp_path, labels=content)
    assert_refused(lambda: read_everything("yolo", file), tmp_path, words)


@pytest.mark.parametrize("name", yolo_cases.FOLDERS)
def test_yolo_folder(tmp_path: Path, name: str) -> None:
    change, words = yolo_cases.FOLDERS[name]
    yolo_cases.data_set(tmp_path)
    change(tmp_path)
    assert_refused(lambda: read_everything("yolo", tmp_path), tmp_path, words)


@pytest.mark.parametrize("name", coco_cases.HARMLESS)
def test_odd_but_sound_coco(tmp_path: Path, name: str) -> None:
    file = coco_cases.data_set(tmp_path, coco_cases.HARMLESS[name])
    with deadline(20):
        source = open_source("coco", file)
    assert len(source.index.labels) == 1 and (source.index.areas == 400).all() and not source.index.crowd.any()


@pytest.mark.parametrize("name", voc_cases.HARMLESS)
def test_odd_but_sound_voc(tmp_path: Path, name: str) -> None:
    with deadline(20):
        assert read_everything("voc", voc_cases.data_set(tmp_path, voc_cases.HARMLESS[name])) == 1


@pytest.mark.parametrize("name", yolo_cases.HARMLESS)
def test_odd_but_sound_yolo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    settings, labels = yolo_cases.HARMLESS[name]
    with deadline(20):
        assert read_everything("yolo", yolo_cases.data_set(tmp_path, settings, labels)) in (1, 2)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("format", ["coco", "voc", "yolo"])
def test_what_is_no_data_set_is_not_waited_for(tmp_path: Path, format: str) -> None:
    for path in (pipe(tmp_path / "pipe"), tmp_path / ("a" * 5000), tmp_path / "a\0b", Path("/dev/zero")):
        assert_refused(lambda path=path: open_source(format, path), tmp_path, "no")
