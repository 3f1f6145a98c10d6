"""Compare methods: train every method of a benchmark, skip trainings that are done, and write tables and figures."""
import argparse
import glob
import os
import sys

import torch

from distpro_mm.comparison import Benchmark, default_workers, run_benchmark
from distpro_mm.engine.command_line import run
from distpro_mm.engine.provenance import command, versions
from distpro_mm.errors import ConfigError
from distpro_mm.reporting import budgets_table, choices_table, comparison_table, draw_accuracy, reach_table, write_csv
from distpro_mm.reporting.comparison_report import write_comparison
from distpro_mm.reporting.report import ReportError, write_report


def report(benchmark: Benchmark, results: list, choices: list, failed: int) -> str:
    """Write the tables, figures and report of a benchmark that has been run, and return the tables."""
    names = [*benchmark.methods, *(f'{name}_longer' for name in (benchmark.extended_to or {}).get('best_of', ()))]
    with_stage = {result['name'] for result in results if result['after']}
    searched = [name for name, method in benchmark.methods.items() if name in with_stage and method.ablation_of is None]
    parts = [comparison_table(results, [*names, 'teacher'], benchmark.reference)]
    if len(benchmark.budgets) > 1:
        parts.append(budgets_table(results, names))
        if searched:
            parts.append(reach_table(results, searched, [name for name in names if name not in searched]))
        draw_accuracy(results, names, os.path.join(benchmark.work_dir, 'accuracy.png'))
    if choices:
        parts.append(choices_table(choices))
    write_csv(results, os.path.join(benchmark.work_dir, 'results.csv'))
    with open(os.path.join(benchmark.work_dir, 'results.md'), 'w') as file:
        file.write('\n\n'.join(parts) + '\n')
    with open(os.path.join(benchmark.folder, f'{benchmark.name}.py')) as file:
        config = file.read()
    write_comparison(benchmark.work_dir, results, choices, name=benchmark.name, methods=names, reference=benchmark.reference,
                     failed=failed, command=command(), versions=versions(), config=config)
    try:
        print(f'report: {write_report(benchmark.work_dir)}')
    except ReportError as error:
        print(f'no report.html was written: {error}')
    return '\n\n'.join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('benchmark', help='benchmark config, e.g. configs/benchmarks/digits.py')
    parser.add_argument('--work-dir', help='folder of all results (default: work_dirs/benchmark_<name>)')
    parser.add_argument('--teacher-ckpt', help='a checkpoint of the teacher; no teacher is trained then')
    parser.add_argument('--methods', nargs='+', metavar='NAME', help="only these of the benchmark's methods (default: all)")
    parser.add_argument('--jobs', type=int, metavar='N',
                        help='trainings at a time, spread over the GPUs; they share the free cores (default: one per GPU; '
                        'without GPUs one per core, or one per OMP_NUM_THREADS cores)')
    args = parser.parse_args()
    if args.jobs is None:
        args.jobs = torch.cuda.device_count() or default_workers()
    if args.jobs < 1:
        parser.error(f'--jobs {args.jobs}: must be 1 or more')
    benchmark = Benchmark(args.benchmark, args.work_dir, args.teacher_ckpt, args.methods)
    print(f'{benchmark.name}: {len(benchmark.methods)} methods, {len(benchmark.seeds)} seeds, {args.jobs} trainings at '
          f'a time, in {benchmark.work_dir}', flush=True)
    done = run_benchmark(benchmark, args.jobs, lambda line: print(line, flush=True))
    tables = report(benchmark, done['results'], done['choices'], done['failed'])
    print('\nTop-1 on the test set after the last epoch; +-: standard deviation over seeds; differences are between runs of '
          f'the same seed.\n\n{tables}\n')
    print(f'tables and figures: {benchmark.work_dir}/')
    for figure in sorted(glob.glob(os.path.join(benchmark.work_dir, '*', 'seed_*', 'process.png'))):
        print(f'process: {figure}')
    if done['failed']:
        raise ConfigError(f'{done["failed"]} trainings failed, see above; the same command trains them again')


if __name__ == '__main__':
    sys.exit(run(main))
