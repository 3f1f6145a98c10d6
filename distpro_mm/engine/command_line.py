"""Shared by the tools: the options ``--pair`` and ``--cfg-options``, and error messages without a traceback."""
import argparse
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import DictAction

from distpro.checks import nearest
from distpro.errors import ArgumentError

from ..errors import ConfigError, DataError, TrainingError


def config_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Settings of a config from texts KEY=VALUE, with values as in the OpenMMLab tools: numbers, lists, texts.

    Raises:
        ConfigError: If a text is not of this form.
    """
    wrong = [pair for pair in pairs if '=' not in pair or pair.startswith('=')]
    if wrong:
        raise ConfigError(f"'{wrong[0]}' is not of the form KEY=VALUE, e.g. train_cfg.max_epochs=10")
    return {key: DictAction._parse_iterable(value) for key, value in (pair.split('=', 1) for pair in pairs)}


class OptionsAction(argparse.Action):
    """``--cfg-options KEY=VALUE ...`` as in the OpenMMLab tools, with a clear error message."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Collect the pairs."""
        try:
            given = config_options(values)
        except ConfigError as error:
            raise argparse.ArgumentError(self, str(error))
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest, None) or {}), **given})


class Parser(argparse.ArgumentParser):
    """A parser whose messages about unknown flags and values have the nearest valid one."""

    def error(self, message: str) -> None:
        """End the program with exit code 2 and a message."""
        flag = re.match(r'unrecognized arguments: (--[\w-]+)', message)
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if flag:
            message += nearest(flag[1], self._option_string_actions)
        elif choice:
            message += nearest(choice[1], re.findall(r"[\w-]+", choice[2]))
        super().error(message)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every tool that reads a config: ``--pair`` and ``--cfg-options``."""
    parser.add_argument('--pair', help='pair of teacher and student, the name of a file in configs/_base_/pairs')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, default={}, metavar='KEY=VALUE',
                        help='override settings of the config, e.g. optim_wrapper.optimizer.lr=0.05')


def run(main: Callable[[], None]) -> int:
    """Run a tool; print an error that the user can fix as one message on stderr.

    A SIGTERM (a cluster's time limit, or torchrun after another process failed) ends the tool like Ctrl-C: files are
    written first. The caller's own handler is set again at the end.

    Args:
        main (Callable): The tool.

    Returns:
        int: 0; 1 after such an error; 130 after Ctrl-C.
    """
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        main()
    except (ArgumentError, DataError, TrainingError) as error:
        # The registries prepend the class and the file of the failed build.
        message = re.sub(r'^(class `\w+` in [\w./]+: )+', '', str(error))
        print(f'error: {message}', file=sys.stderr)
        return 1
    except OSError as error:  # a folder that cannot be written
        if error.filename is None:
            raise
        print(f"error: '{error.filename}': {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('interrupted: a training continues from its last checkpoint with --resume, a comparison with the same command',
              file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # None: not one of Python
    return 0
