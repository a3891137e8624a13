"""What of the images is looked at before a run, so that nothing about them is known late."""

from kdet.data import Source, leak, look
from kdet.errors import InputError
from kdet.train.models import Say

_MOST_LOOKED_AT = 10_000
"""Images of each split whose headers are looked at before a run; a look takes about 0.1 ms."""


def require_sound(train: Source, val: Source, say: Say, *, strict: bool = False) -> None:
    """Say and refuse before training what it would stop at, or be judged wrongly by.

    Raises:
        InputError: images that cannot be read or are not of the stated size; with `strict` images in both splits.
    """
    for name, source in (("training", train), ("validation", val)):
        found = look(source, most=_MOST_LOOKED_AT)
        if found.faults:
            raise InputError(f"{name} data: {'; '.join(found.faults)}; mend or leave out what is named")
        for note in found.notes:
            say(f"{name} data: {note}")
    require_apart(train, val, say, strict=strict)


def require_apart(train: Source, val: Source, say: Say, *, strict: bool = False) -> None:
    """Say, or with `strict` refuse, that validation images are trained on, with labels or without.

    Raises:
        InputError: with `strict` images in both.
    """
    if shared := leak(train, val):
        if strict:
            raise InputError(shared)
        say(shared)
