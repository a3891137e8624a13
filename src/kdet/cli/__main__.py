"""Entry point: one clear line and an exit status, never a traceback for what a user can mend."""

import sys

from kdet.cli.app import app
from kdet.errors import InputError, WorkError


def main() -> None:
    """Run the command line; exit status 0, 1 (the work failed) or 2 (wrong input)."""
    try:
        status = app(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except InputError as error:
        _end(str(error), 2)
    except WorkError as error:
        _end(str(error), 1)
    except KeyboardInterrupt:
        _end("interrupted; a run goes on from its last saved state with --resume", 130)
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
