"""How much is tried: different inputs, not the same under several names."""

import coco_cases
import voc_cases
import yolo_cases
from checkpoint_cases import ABOUT, BUILD, SAFETENSORS, TORCH
from image_cases import BROKEN, NO_FILES
from recipe_text_cases import TEXTS
from recipe_value_cases import VALUES
from run_folder_cases import PLACES
from run_folder_cases import TEXTS as FILES

CONTENTS = [TEXTS, VALUES, coco_cases.CASES, voc_cases.XML, yolo_cases.SETTINGS, yolo_cases.LINES, SAFETENSORS]
MADE = [BROKEN, NO_FILES, voc_cases.FOLDERS, yolo_cases.FOLDERS, TORCH, ABOUT, BUILD, PLACES]


def test_there_are_more_than_three_hundred_malformed_inputs() -> None:
    assert sum(map(len, [*CONTENTS, *MADE, FILES])) >= 750


def test_no_two_of_a_table_are_the_same() -> None:
    for table in CONTENTS:
        contents = [case[0] for case in table.values()]
        assert len(set(contents)) == len(contents)
    assert len({(file, content) for file, content, _ in FILES.values()}) == len(FILES)
    assert len({make() for make, _ in BROKEN.values()}) == len(BROKEN)
