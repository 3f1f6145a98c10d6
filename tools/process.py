"""List, show, compare, convert and average processes: those of the library by name, and process files by path."""
import sys

from distpro_mm.commands import average, convert, diff, list_processes, show
from distpro_mm.engine.command_line import Parser, add_config_options, run
from distpro_mm.engine.config_file import load_config


def main() -> None:
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    commands.add_parser('list', help='the processes that can be used by name').set_defaults(
        act=lambda args: list_processes())
    show_parser = commands.add_parser('show', help='where a process comes from, and its weights')
    show_parser.set_defaults(act=lambda args: show(args.process, args.png))
    show_parser.add_argument('process')
    show_parser.add_argument('--png', help='draw the weights to this file')
    diff_parser = commands.add_parser('diff', help='weights of two processes, at the depths of the first')
    diff_parser.set_defaults(act=lambda args: diff(args.process, args.other))
    diff_parser.add_argument('process')
    diff_parser.add_argument('other')
    convert_parser = commands.add_parser('convert', help='map a process to the pathways of a config by depth, and write it')
    convert_parser.set_defaults(act=lambda args: convert(
        args.process, load_config(args.config, args.cfg_options, args.pair), args.out))
    convert_parser.add_argument('process')
    convert_parser.add_argument('config', help='config of a distillation, e.g. configs/distpro/equal.py')
    convert_parser.add_argument('--out', required=True, help='the process file to write')
    add_config_options(convert_parser)
    average_parser = commands.add_parser('average', help='write the mean of several processes over relative depths')
    average_parser.set_defaults(act=lambda args: average(args.processes, args.out, args.layers, args.knots))
    average_parser.add_argument('processes', nargs='+')
    average_parser.add_argument('--out', required=True, help='the process file to write')
    average_parser.add_argument('--layers', type=int, default=4, help='layers of teacher and student, >= 2; default 4')
    average_parser.add_argument('--knots', type=int, default=4, help='points of the training, >= 2; default 4')
    args = parser.parse_args()
    args.act(args)


if __name__ == '__main__':
    sys.exit(run(main))
