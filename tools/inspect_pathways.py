"""Show the layers of teacher and student that a config selects, its pathways and their costs.

Needs no data or weights, except for transmitters of the type 'clustered'.
"""
import sys

from distpro_mm.commands import inspect_pathways
from distpro_mm.engine.command_line import Parser, add_config_options, run
from distpro_mm.engine.config_file import load_config


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='config of a search or a distillation, e.g. configs/distpro/search.py')
    add_config_options(parser)
    args = parser.parse_args()
    inspect_pathways(load_config(args.config, args.cfg_options, args.pair))


if __name__ == '__main__':
    sys.exit(run(main))
