"""Export the student of a distillation as a plain mmpretrain model (student.pth, student.py)."""
import argparse
import sys

from distpro_mm.engine.command_line import add_config_options, run
from distpro_mm.engine.config_file import load_config
from distpro_mm.export import export_student


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the training')
    parser.add_argument('checkpoint', help='its checkpoint')
    add_config_options(parser)
    parser.add_argument('--out', default='student', help='folder to write to (default: student)')
    args = parser.parse_args()
    paths = export_student(load_config(args.config, args.cfg_options, args.pair), args.checkpoint, args.out)
    for name, path in paths.items():
        print(f'{name}: {path}')


if __name__ == '__main__':
    sys.exit(run(main))
