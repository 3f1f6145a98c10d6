"""The entry point of the command ``distpro``."""
import os
import sys

from distpro.errors import ArgumentError
from distpro.networks.library import import_library


def main() -> int:
    """Run the command with the arguments of the command line.

    Returns:
        int: 0; 1 after an error that the user can fix, which is one line on stderr; 2 after a wrong command or option; 130
        after Ctrl-C.
    """
    sys.path.append(os.getcwd())  # networks of the user's own modules
    try:
        import_library('typer', "pip install 'distpro_mm[app]'", 'the command distpro')
        from .commands import app
        app(prog_name='distpro')
    except ArgumentError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
