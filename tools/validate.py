"""Load every method, search and distillation for every pair, and every benchmark; list those that cannot be trained."""
import argparse
import itertools
import sys

from distpro_mm.engine.command_line import run
from distpro_mm.errors import ConfigError
from distpro_mm.validation import check_benchmarks, check_methods, pairs_in


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='?', default='configs', help='folder of the configs (default: configs)')
    parser.add_argument('--pair', nargs='+', metavar='NAME', help='check only these pairs, and no benchmarks (default: all)')
    parser.add_argument('--build', action='store_true',
                        help='build the models too, to find layers that do not fit; takes seconds per model')
    args = parser.parse_args()
    benchmarks = [] if args.pair else check_benchmarks(args.configs)
    checked, failed = 0, 0
    for done in itertools.chain(check_methods(args.configs, args.pair or pairs_in(args.configs), args.build), benchmarks):
        checked += 1
        if done.problem is not None:
            failed += 1
            print(f'{done.path}{f" --pair {done.pair}" if done.pair else ""}: {done.problem}', flush=True)
    print(f'{checked} configs checked, {failed} cannot be trained')
    if failed:
        raise ConfigError(f'{failed} of {checked} configs cannot be trained, see above')


if __name__ == '__main__':
    sys.exit(run(main))
