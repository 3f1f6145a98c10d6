"""Atomic writing of files: a kill at any time leaves the old file or the new one, never a part."""
import contextlib
import os
import tempfile
from typing import Iterator


@contextlib.contextmanager
def atomic_write(path: str) -> Iterator[str]:
    """Write a temporary file and move it into place.

    Args:
        path (str): The file; its folder is made if there is none.

    Yields:
        str: Path to write to. What lies there at the end is moved to ``path``; after an error it is removed.
    """
    path = os.path.abspath(path)
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=folder, prefix='.writing-', suffix=os.path.splitext(name)[1])
    os.close(handle)
    try:
        yield beside
        with open(beside, 'rb+') as file:
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise
