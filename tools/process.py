"""List, show, compare, convert and average processes: those of the library by name, and process files by path."""
import argparse
import sys

from distpro.errors import ProcessError
from distpro.process import DistillationProcess, average_processes, library, load_process, map_process
from distpro_mm.engine.command_line import add_config_options, run
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_pathways
from distpro_mm.reporting.figures import draw_process
from distpro_mm.reporting.processes import difference_rows, library_rows, origin_rows, weight_rows
from distpro_mm.reporting.table import markdown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    commands.add_parser('list', help='the processes that can be used by name').set_defaults(act=_list)
    show = commands.add_parser('show', help='where a process comes from, and its weights')
    show.set_defaults(act=_show)
    show.add_argument('process')
    show.add_argument('--png', help='draw the weights to this file')
    diff = commands.add_parser('diff', help='weights of two processes, at the depths of the first')
    diff.set_defaults(act=_diff)
    diff.add_argument('process')
    diff.add_argument('other')
    convert = commands.add_parser('convert', help='map a process to the pathways of a config by depth, and write it')
    convert.set_defaults(act=_convert)
    convert.add_argument('process')
    convert.add_argument('config', help='config of a distillation, e.g. configs/distpro/equal.py')
    convert.add_argument('--out', required=True, help='the process file to write')
    add_config_options(convert)
    average = commands.add_parser('average', help='write the mean of several processes over relative depths')
    average.set_defaults(act=_average)
    average.add_argument('processes', nargs='+')
    average.add_argument('--out', required=True, help='the process file to write')
    average.add_argument('--layers', type=int, default=4, help='layers of teacher and student, >= 2; default 4')
    average.add_argument('--knots', type=int, default=4, help='points of the training, >= 2; default 4')
    args = parser.parse_args()
    args.act(args)


def _list(args: argparse.Namespace) -> None:
    print(markdown(library_rows({name: load_process(name) for name in library()})))


def _show(args: argparse.Namespace) -> None:
    process = load_process(args.process)
    print(markdown(origin_rows(process)), markdown(weight_rows(process)), sep='\n\n')
    if args.png:
        draw_process(process, args.png, args.process)


def _diff(args: argparse.Namespace) -> None:
    process, other = load_process(args.process), load_process(args.other)
    if process.weighting.unit != other.weighting.unit:
        raise ProcessError(f"'{args.process}' has weights in the unit '{process.weighting.unit}' and '{args.other}' in "
                           f"'{other.weighting.unit}', which cannot be compared")
    print(markdown(difference_rows(process, map_process(other, process.names, process.layers))))


def _convert(args: argparse.Namespace) -> None:
    process = load_process(args.process)
    grid = build_pathways(load_config(args.config, args.cfg_options, args.pair)).distiller.grid
    map_process(process, grid.names, grid.layer_names).save(args.out)
    print(f'wrote {args.out}: {len(grid.names)} pathways')


def _average(args: argparse.Namespace) -> None:
    process: DistillationProcess = average_processes([load_process(source) for source in args.processes], args.layers,
                                                     args.knots)
    process.origin = dict(average_of=args.processes)
    process.save(args.out)
    print(f'wrote {args.out}: the mean of {len(args.processes)} processes')


if __name__ == '__main__':
    sys.exit(run(main))
