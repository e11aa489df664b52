"""Loggers whose texts any console can show, because a prompt may hold letters that the console lacks."""

from __future__ import annotations

import logging
import sys


def get_logger(name: str) -> logging.Logger:
    """The logger of a module. It writes a letter that the console lacks as a number (\\\\u5b57).

    Without this, logging to a console with few letters, such as cp1252, prints a traceback in place of the text.
    """
    logger = logging.getLogger(name)
    if not any(isinstance(one, _Printable) for one in logger.filters):
        logger.addFilter(_Printable())
    return logger


class _Printable(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        letters = getattr(sys.stderr, "encoding", None) or "utf-8"
        record.msg, record.args = record.getMessage().encode(letters, "backslashreplace").decode(letters), None
        return True
