"""Log lines on the terminal."""

import logging
import sys

from dogbreeds.errors import PlaceError


class ConsoleHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes lines to a stream, and lets the program end when the reader of a pipe has left."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Raises a broken pipe or a full disk, which logging would print a traceback of for every further line."""
        if isinstance(sys.exc_info()[1], OSError):
            raise
        super().handleError(record)


class LogFile(logging.FileHandler):
    """Writes lines to a file, and lets the program end where that is impossible, as on a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Raises what logging would print a traceback of for every line."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise PlaceError(self.baseFilename, error) from error
        raise
