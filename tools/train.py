"""Train a teacher, a baseline, a search or a distillation from a config."""
import argparse
import os
import sys

from distpro_mm.commands import train
from distpro_mm.engine.command_line import Parser, add_config_options, run
from distpro_mm.engine.config_file import load_config


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument('config', help='config file')
    add_config_options(parser)
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/<pair>/<config name>)')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help='resume from this checkpoint; without a value, from the latest one in the work_dir')
    parser.add_argument('--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    parser.add_argument('--profile', action='store_true',
                        help='log the cost of a step every 50 iterations: passes, seconds, memory')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(args.config, args.cfg_options, args.pair)
    train(cfg, args.work_dir, args.resume, args.amp, args.profile, args.launcher)


if __name__ == '__main__':
    sys.exit(run(main))
