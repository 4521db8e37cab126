"""The standard streams below Python's own."""

import os
from contextlib import contextmanager


@contextmanager
def native_stderr_in(file):
    """What anything writes to file descriptor 2, Python or not, goes to an open file for that time."""
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
