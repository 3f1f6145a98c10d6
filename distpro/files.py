"""Files: atomic writes, JSON, and the nearest file in place of one that does not exist.

After an interruption, a file that is written atomically has the old or the new content, never a part of it.
"""
import contextlib
import difflib
import json
import os
import tempfile
from collections.abc import Iterator
from typing import Any


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


def write_json(path: str, value: Any, indent: int | None = None) -> None:
    """Write a value as JSON atomically.

    Args:
        path (str): The file.
        value (Any): Nested dicts and lists of texts and numbers, also of numpy and torch.
        indent (int, optional): Spaces of each level. Defaults to None: one line.

    Raises:
        OSError: If it cannot be written.
        TypeError: If it has something that JSON has not.
    """
    with atomic_write(path) as temporary, open(temporary, 'w', encoding='utf-8') as file:
        json.dump(value, file, indent=indent, default=_plain)
        file.write('\n' if indent else '')


def _plain(value: Any) -> Any:
    """A number or an array of numpy or torch as numbers of Python."""
    if not hasattr(value, 'tolist'):
        raise TypeError(f'{type(value).__name__} {value!r} is neither a number, a text, a list nor a dict')
    return value.tolist()


def nearest_path(path: str) -> str:
    """A suffix for the message that a path does not exist, with the most similar one that does; empty if none is similar.

    Args:
        path (str): The path. Each of its parts that does not exist is replaced by the most similar name in its folder.
    """
    found = os.sep if os.path.isabs(path) else ''
    for part in os.path.normpath(path).split(os.sep):
        if not os.path.lexists(os.path.join(found, part)):
            try:
                names = os.listdir(found or '.')
            except OSError:
                return ''
            similar = difflib.get_close_matches(part, names, n=1)
            if not similar:
                return ''
            part = similar[0]
        found = os.path.join(found, part)
    return f" (nearest: '{found}')"
