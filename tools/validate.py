"""Load every method, search and distillation for every pair, and every benchmark; list those that cannot be trained."""
import sys

from distpro_mm.commands import validate
from distpro_mm.engine.command_line import Parser, run


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument('configs', nargs='?', default='configs', help='folder of the configs (default: configs)')
    parser.add_argument('--pair', nargs='+', metavar='NAME', help='check only these pairs, and no benchmarks (default: all)')
    parser.add_argument('--build', action='store_true',
                        help='build the models too, to find layers that do not fit; takes seconds per model')
    args = parser.parse_args()
    validate(args.configs, args.pair, args.build)


if __name__ == '__main__':
    sys.exit(run(main))
