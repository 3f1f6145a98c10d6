"""Compare methods: train every method of a benchmark, skip trainings that are done, and write tables and figures."""
import sys

from distpro_mm.commands import ENGINES, compare
from distpro_mm.engine.command_line import Parser, run


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument('benchmark', help='benchmark config, e.g. configs/benchmarks/digits.py')
    parser.add_argument('--work-dir', help='folder of all results (default: work_dirs/benchmark_<name>)')
    parser.add_argument('--teacher-ckpt', help='a checkpoint of the teacher; no teacher is trained then')
    parser.add_argument('--methods', nargs='+', metavar='NAME', help="only these of the benchmark's methods (default: all)")
    parser.add_argument('--jobs', type=int, metavar='N',
                        help='trainings at a time, spread over the GPUs; they share the free cores (default: one per GPU; '
                        'without GPUs one per core, or one per OMP_NUM_THREADS cores; on a cluster as many as it has room '
                        'for)')
    parser.add_argument('--engine', choices=ENGINES, default='local',
                        help='what trains: this machine, or the nodes of a Ray cluster (default: local)')
    cluster = parser.add_argument_group('on a Ray cluster (--engine ray)')
    cluster.add_argument('--address', help="'auto', the cluster of this machine; 'local', processes of this machine; or "
                         '<host>:<port> (default: auto)')
    cluster.add_argument('--cpus', type=int, metavar='N', help='cores and threads of a training (default: 1)')
    cluster.add_argument('--gpus', type=float, metavar='N', help='GPUs of a training; 0.25 lets four share one (default: 1 '
                         'if the cluster has any, else 0)')
    cluster.add_argument('--memory', type=float, metavar='GIB', help='main memory of a training (default: not counted)')
    args = parser.parse_args()
    if args.jobs is not None and args.jobs < 1:
        parser.error(f'--jobs {args.jobs}: must be 1 or more')
    compare(args.benchmark, args.work_dir, args.teacher_ckpt, args.methods, args.jobs, args.engine, address=args.address,
            cpus=args.cpus, gpus=args.gpus, memory=args.memory)


if __name__ == '__main__':
    sys.exit(run(main))
