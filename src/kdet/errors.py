"""The two ways a command can end badly; the command line turns them into one line and an exit status."""


class InputError(ValueError):
    """What the user gave is wrong. Says what is wrong, where (file, entry), and how to mend it. Exit status 2."""


class WorkError(RuntimeError):
    """The input was right and the work failed all the same, for example a non-finite loss. Exit status 1."""


class Interrupted(WorkError):
    """A signal ended the work, and what was done is saved. Exit status 130."""
