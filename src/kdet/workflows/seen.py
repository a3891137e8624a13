"""Whether a teacher was trained on the images that its students are judged on; by the recipe in its run folder."""

from collections.abc import Iterator

from kdet.data import Source
from kdet.train import Recipe
from kdet.train.seen_images import image_keys, training_images


def seen_in_training(recipe: Recipe, judged: Source) -> list[int | None]:
    """Count for each teacher how many of these images it was trained on; None where nothing tells.

    Args:
        recipe: whose teachers, and whose data.
        judged: the images on which students are compared.
    """
    own = set(image_keys(recipe, judged))
    trained_on = [training_images(teacher) for teacher in recipe.teachers]
    return [None if images is None else len(own & images) for images in trained_on]


def flattered(recipe: Recipe, judged: Source) -> Iterator[str]:
    """Why gains on these images may be too good, one line for each teacher that has learned their labels."""
    for number, seen in enumerate(seen_in_training(recipe, judged), start=1):
        if not seen:
            continue
        who = "the teacher" if len(recipe.teachers) == 1 else f"teacher {number}"
        line = (
            f"{who} was trained on {seen} of the {len(judged.index)} images on which AP is measured: it knows their "
            "labels and passes on what it knows, so gains over the student alone may be too good"
        )
        if recipe.data.hold_out is not None:
            line += f"; train one for this choice with the same `data: {{hold_out: {recipe.data.hold_out:g}}}`"
        yield line
