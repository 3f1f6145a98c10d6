"""Compare methods: train every method of a benchmark, skip trainings that are done, and write tables and figures."""
import sys

from distpro_mm.commands import compare
from distpro_mm.engine.command_line import Parser, run


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument('benchmark', help='benchmark config, e.g. configs/benchmarks/digits.py')
    parser.add_argument('--work-dir', help='folder of all results (default: work_dirs/benchmark_<name>)')
    parser.add_argument('--teacher-ckpt', help='a checkpoint of the teacher; no teacher is trained then')
    parser.add_argument('--methods', nargs='+', metavar='NAME', help="only these of the benchmark's methods (default: all)")
    parser.add_argument('--jobs', type=int, metavar='N',
                        help='trainings at a time, spread over the GPUs; they share the free cores (default: one per GPU; '
                        'without GPUs one per core, or one per OMP_NUM_THREADS cores)')
    args = parser.parse_args()
    if args.jobs is not None and args.jobs < 1:
        parser.error(f'--jobs {args.jobs}: must be 1 or more')
    compare(args.benchmark, args.work_dir, args.teacher_ckpt, args.methods, args.jobs)


if __name__ == '__main__':
    sys.exit(run(main))
