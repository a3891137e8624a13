"""The two ways a command can end badly; the command line turns them into one line and an exit status."""

_LONGEST = 1500
"""Longest message in characters; what quotes the user's file may be of any length."""


class InputError(ValueError):
    """What the user gave is wrong. Says what is wrong, where (file, entry), and how to mend it. Exit status 2."""

    def __init__(self, message: str) -> None:
        # What a process that loads images passes on is its whole traceback; the last line of it is the message.
        super().__init__(one_line(message.rpartition("kdet.errors.InputError: ")[2]))


class NotANumber(ValueError):
    """A loss was given NaN; what else it may refuse is an error of the code."""


class WorkError(RuntimeError):
    """The input was right and the work failed all the same, for example a non-finite loss. Exit status 1."""


class Interrupted(WorkError):
    """A signal ended the work, and what was done is saved. Exit status 130."""


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: `1 image`, `2 images`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def one_line(text: object) -> str:
    """Make a message one printable line: file names and libraries' messages may hold line breaks, terminal codes."""
    words = " ".join(str(text).split())
    shown = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in words)
    if len(shown) <= _LONGEST:
        return shown
    half = _LONGEST // 2
    return f"{shown[:half]} […] {shown[-half:]}"
