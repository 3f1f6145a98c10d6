"""Atomic writes: after an interruption, the file has the old or the new content, never a part of it."""
import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def atomic_write(path: str) -> Iterator[str]:
    """Write to a temporary file that replaces ``path`` on success.

    Args:
        path (str): The file; its folder is created if it does not exist.

    Yields:
        str: Path of the temporary file. At the end, it is renamed to ``path``; after an error, it is removed.
    """
    path = os.path.abspath(path)
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix='.writing-', suffix=os.path.splitext(name)[1])
    os.close(handle)
    try:
        yield temporary
        with open(temporary, 'rb+') as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
