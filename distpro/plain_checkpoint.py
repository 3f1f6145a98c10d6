"""The file that a search in a plain loop continues from."""
import os
import pickle
from typing import Any

import torch

from .checks import check_that
from .errors import ArgumentError, first_line
from .files import atomic_write
from .searching import RoundSearch


class SearchCheckpoint:
    """Stores the rounds of a search that are done, and continues from them.

    Args:
        path (str, optional): The file; None: nothing is stored.
        settings (dict): What a search must have in common with the one that wrote the file: numbers and texts.

    Raises:
        ArgumentError: If the path is none.
    """

    def __init__(self, path: str | os.PathLike | None, settings: dict[str, Any]) -> None:
        check_that('checkpoint', path, path is None or isinstance(path, (str, os.PathLike)), 'the path of a file, or None')
        self.path, self.settings = path, settings

    def load(self, found: RoundSearch) -> int:
        """Continue a search from the file.

        Returns:
            int: Trials that are done; 0 if there is no file.

        Raises:
            ArgumentError: If the file cannot be read, or is of a search with other settings.
        """
        if self.path is None or not os.path.exists(self.path):
            return 0
        try:
            stored = torch.load(self.path, map_location='cpu', weights_only=True)
            settings, state = stored['settings'], stored['search']
        except (OSError, RuntimeError, ValueError, LookupError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise ArgumentError(f"checkpoint='{self.path}' cannot be read ({first_line(error)}): delete it to search anew, "
                                'or give another file') from error
        for name, value in self.settings.items():
            if settings.get(name) != value:
                raise ArgumentError(f"checkpoint='{self.path}' is of a search with {name}={settings.get(name)!r}, and this "
                                    f'one has {value!r}: give the arguments of that search, or another file')
        found.load_state_dict(state)
        return len(found.searcher.history)

    def save(self, found: RoundSearch) -> None:
        """Write the rounds that are done to the file, atomically."""
        if self.path is not None:
            with atomic_write(os.fspath(self.path)) as temporary:
                torch.save(dict(settings=self.settings, search=found.state_dict()), temporary)
