"""Evaluate a network, or the student of a distillation, on the test set."""
import argparse
import os
import sys

from distpro_mm.commands import evaluate
from distpro_mm.engine.command_line import Parser, add_config_options, run
from distpro_mm.engine.config_file import load_config


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='config of the training')
    parser.add_argument('checkpoint', help='checkpoint of a training, or an exported student')
    add_config_options(parser)
    parser.add_argument('--work-dir', help='folder for the log (default: work_dirs/<pair>/<config name>)')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(args.config, args.cfg_options, args.pair)
    evaluate(cfg, args.checkpoint, args.work_dir, args.launcher)


if __name__ == '__main__':
    sys.exit(run(main))
