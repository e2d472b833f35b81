"""What the glue returns: a number, or a negative errno."""

import os
from typing import NoReturn


def checked(result: int) -> int:
    """Return *result*.

    Raises:
        OSError: if it is an errno.
    """
    if result < 0:
        fail(-result)
    return int(result)


def fail(number: int) -> NoReturn:
    """Raise OSError with the errno *number*."""
    raise OSError(number, os.strerror(number))
