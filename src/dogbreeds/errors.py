"""Errors that are meant for the person at the keyboard."""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: What is wrong with a disk or with a place on it; other errors of the system are mistakes of the program.
DISK_ERRORS = (
    *_FULL,
    *(errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
)


def did_you_mean(name: str, names: Iterable[str], most: int = 3) -> str:
    """Returns a sentence that names what is spelled like `name`, with a space behind it; nothing where nothing is."""
    spelled = {one.lower(): one for one in names}
    near = get_close_matches(name.lower(), list(spelled), n=most, cutoff=0.5)
    return f"Did you mean {' or '.join(spelled[one] for one in near)}? " if near else ""


class UserError(Exception):
    """Something the user can put right: the message says what is wrong, where, and what to type instead.

    The entry points print the message alone, without a traceback, and exit with `exit_code`.
    """

    exit_code = 2


class Interrupted(UserError):
    """The person pressed Ctrl-C; the message says how to go on."""

    exit_code = 130


@contextmanager
def on_interrupt(said: str) -> Iterator[None]:
    """Makes `said` the message of Ctrl-C within a block."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"\n{said}") from None


class PlaceError(UserError, OSError):
    """A place that cannot be read or written."""

    def __init__(self, place: object, error: OSError) -> None:
        advice = " Make room there, or choose a place on another disk." if error.errno in _FULL else ""
        super().__init__(f"{place}: {(error.strerror or str(error)).lower()}.{advice}")


class ConfigError(UserError):
    """A setting that is unknown, impossible or contradicts another one."""


class DataError(UserError):
    """Folders or photos that no classifier can be trained on as they are."""


class WeightsError(UserError):
    """Backbone weights that are missing, damaged or made for another architecture."""


class PackageError(UserError):
    """A model package that is missing, damaged or made by a newer version."""


class CacheError(UserError):
    """The place of the feature store cannot be used, or has no room."""


class EngineError(UserError):
    """An engine for the trunk that cannot be started on this machine."""
