"""A user's mistake ends a run with one line, not with a page of somebody else's code."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

PACKAGE = Path(__file__).resolve().parents[1]
CHECKED = (ValueError, TypeError, OSError, RuntimeError, ImportError)  # what the checks at the public doors raise


def explain_mistakes() -> None:
    """From now on an uncaught error that this package raised is printed as its message alone.

    MONAI wraps every error of a transform or a component in its own, so that the reason stands in the middle of a
    long traceback. Errors that come from elsewhere are printed whole, as ever.
    """
    sys.excepthook = _print_error


def own_error(error: BaseException | None) -> BaseException | None:
    """The error in a chain of causes that was raised by a check in this package's own code, if there is one.

    Args:
        error: the last of the chain.
    """
    while error is not None:
        if isinstance(error, CHECKED) and PACKAGE in _raised_in(error).parents:
            return error
        error = error.__cause__ or error.__context__
    return None


def _raised_in(error: BaseException) -> Path:
    """The file that raised an error."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return Path() if frame is None else Path(frame.tb_frame.f_code.co_filename).resolve()


def _print_error(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    mistake = own_error(error)
    if mistake is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        sys.stderr.write(f"\n{type(mistake).__name__}: {mistake}\n")
