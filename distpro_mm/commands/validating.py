"""Checks of all configs in a folder."""
import itertools
from collections.abc import Sequence

from distpro.checks import FLAG, check_choice

from ..errors import ConfigError
from ..validation import check_benchmarks, check_methods, pairs_in


def validate(configs: str = 'configs', pairs: Sequence[str] | None = None, build: bool = False) -> None:
    """Load every method, search and distillation for every pair, and every benchmark; print those that cannot be trained.

    Args:
        configs (str): Folder of the configs. Defaults to 'configs'.
        pairs (Sequence[str], optional): Check only these pairs, and no benchmarks. Defaults to None: all.
        build (bool): Build the models too, which takes seconds each. Defaults to False.

    Raises:
        ConfigError: If configs cannot be trained.
    """
    check_choice('build', build, FLAG, ConfigError)
    benchmarks = [] if pairs else check_benchmarks(configs)
    checked, failed = 0, 0
    for done in itertools.chain(check_methods(configs, pairs or pairs_in(configs), build), benchmarks):
        checked += 1
        if done.problem is not None:
            failed += 1
            print(f'{done.path}{f" --pair {done.pair}" if done.pair else ""}: {done.problem}', flush=True)
    print(f'{checked} configs checked, {failed} cannot be trained')
    if failed:
        raise ConfigError(f'{failed} of {checked} configs cannot be trained, see above')
