"""From which scores on a teacher's boxes are taken for objects: `score: auto`."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kdet.data import Source, taken
from kdet.evaluate import ImagePredictions, Threshold, best_thresholds
from kdet.train.models import Say
from kdet.train.recipe.models import OneTeacher
from kdet.train.recipe.schema import Recipe
from kdet.train.seen_images import image_keys, training_images

_MOST = 1000
"""Images that the teacher looks at for it; ten times as many say little more of a score."""
_LEAST = 20
"""Objects on images that the teacher has not trained on; fewer say too little."""

Find = Callable[[Source], Sequence[ImagePredictions]]
"""What the teacher finds on all images of a source, at all scores."""


def choose_thresholds(
    recipe: Recipe, teacher: OneTeacher, labelled: Source, find: Find, say: Say
) -> Mapping[str, Threshold]:
    """Choose for each class the score at which the teacher's F1 is best on labelled training images.

    They are those that it was not trained on, as its run folder tells, if that leaves enough: on images that a teacher
    has learned by heart it is surer than on others, and so are the scores at which it is right.

    Args:
        recipe: whose images.
        teacher: one of its teachers.
        labelled: images of its training part.
        find: what the teacher finds.
        say: receives on which images they were chosen.
    """
    seen = training_images(teacher)
    keys = image_keys(recipe, labelled)
    new = [row for row, key in enumerate(keys) if seen is not None and key not in seen]
    enough = int(np.diff(labelled.index.offsets)[new].sum()) >= _LEAST
    rows = np.random.default_rng(0).permutation(new if enough else len(keys))[:_MOST]
    source = taken(labelled, np.sort(rows))
    if enough:
        about = "that the teacher was not trained on"
    elif seen is None:
        about = "; whether the teacher was trained on them is not known: if it was, the scores are too high"
    else:
        about = (
            "that the teacher was trained on: it is surer there than elsewhere, so the scores may be too high; train "
            "it with `data: {hold_out: 0.2}` to have others"
        )
    found = best_thresholds(source.index, find(source))
    shown = ", ".join(f"{name} {one.score:.2f} (F1 {one.f1:.2f})" for name, one in found.items())
    say(f"score: auto: boxes from {shown} on, by {len(rows)} labelled training images {about}")
    return found
