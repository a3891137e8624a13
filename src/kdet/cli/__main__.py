"""Entry point: one clear line and an exit status, never a traceback for what a user can mend."""

import sys

from kdet.cli.app import app
from kdet.errors import InputError, Interrupted, WorkError

_INTERRUPTED = 130


def main() -> None:
    """Run the command line; exit status 0, 1 (the work failed), 2 (wrong input) or 130 (a signal ended it)."""
    try:
        status = app(standalone_mode=False)
        if status == _INTERRUPTED:  # what the command-line library makes of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(status if isinstance(status, int) else 0)
    except InputError as error:
        _end(str(error), 2)
    except Interrupted as error:
        _end(str(error), _INTERRUPTED)
    except WorkError as error:
        _end(str(error), 1)
    except KeyboardInterrupt:
        _end(
            "interrupted; what was saved is intact, and the same command goes on (train, distill: with --resume)",
            _INTERRUPTED,
        )
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        # The command-line library's own errors; it keeps their class to itself, but not what they say.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        text = str(message())
        _end(text if "\n" not in text else f"a command is missing\n{text}", 2)


def _end(message: str, status: int) -> None:
    print(f"kdet: {message}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
