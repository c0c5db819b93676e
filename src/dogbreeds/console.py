"""Log lines on the terminal."""

from __future__ import annotations

import logging
import sys


class ConsoleHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes lines to a stream, and lets the program end when the reader of a pipe has left."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Raises a broken pipe, which logging would print a traceback of for every further line."""
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            raise
        super().handleError(record)
