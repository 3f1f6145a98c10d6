"""Shared by the tools: the options ``--pair`` and ``--cfg-options``, and error messages without a traceback."""
import argparse
import re
import signal
import sys
from collections.abc import Callable

from mmengine.config import DictAction

from distpro.errors import ArgumentError

from ..errors import DataError, TrainingError


class OptionsAction(DictAction):
    """``--cfg-options KEY=VALUE ...`` as in the OpenMMLab tools, with a clear error message."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Collect the pairs."""
        wrong = [value for value in values if '=' not in value or value.startswith('=')]
        if wrong:
            raise argparse.ArgumentError(self, f"'{wrong[0]}' is not of the form KEY=VALUE, e.g. train_cfg.max_epochs=10")
        super().__call__(parser, namespace, values, option_string)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every tool that reads a config: ``--pair`` and ``--cfg-options``."""
    parser.add_argument('--pair', help='pair of teacher and student, the name of a file in configs/_base_/pairs')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, default={}, metavar='KEY=VALUE',
                        help='override settings of the config, e.g. optim_wrapper.optimizer.lr=0.05')


def run(main: Callable[[], None]) -> int:
    """Run a tool; print an error that the user can fix as one message on stderr.

    A SIGTERM (a cluster's time limit, or torchrun after another process failed) ends the tool like Ctrl-C: files are
    written first.

    Args:
        main (Callable): The tool.

    Returns:
        int: 0, or 1 after such an error.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        main()
    except (ArgumentError, DataError, TrainingError) as error:
        # The registries prepend the class and the file of the failed build.
        message = re.sub(r'^(class `\w+` in [\w./]+: )+', '', str(error))
        print(f'error: {message}', file=sys.stderr)
        return 1
    return 0
