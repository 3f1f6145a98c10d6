"""Export the student of a distillation as a plain mmpretrain model (student.pth, student.py)."""
import sys

from distpro_mm.commands import export
from distpro_mm.engine.command_line import Parser, add_config_options, run
from distpro_mm.engine.config_file import load_config


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='config of the training')
    parser.add_argument('checkpoint', help='its checkpoint')
    add_config_options(parser)
    parser.add_argument('--out', default='student', help='folder to write to (default: student)')
    args = parser.parse_args()
    export(load_config(args.config, args.cfg_options, args.pair), args.checkpoint, args.out)


if __name__ == '__main__':
    sys.exit(run(main))
