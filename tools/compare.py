"""Compare methods side by side: trains what a benchmark names, skips what is done, and ends with a table."""
import argparse
import os
import sys

from distpro_mm.comparison import Benchmark, run_benchmark
from distpro_mm.engine.command_line import run
from distpro_mm.errors import ConfigError
from distpro_mm.reporting import comparison_table, write_csv


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('benchmark', help='benchmark config, e.g. configs/benchmarks/digits.py')
    parser.add_argument('--work-dir', help='where everything goes (default: work_dirs/benchmark_<name>)')
    parser.add_argument('--jobs', type=int, default=os.cpu_count() or 1, help='trainings at once (default: one a core)')
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f'--jobs {args.jobs}: must be 1 or more')
    benchmark = Benchmark(args.benchmark, args.work_dir)
    jobs = benchmark.jobs()
    print(f'{benchmark.name}: {len(jobs)} trainings, {args.jobs} at once, in {benchmark.work_dir}', flush=True)
    results = run_benchmark(benchmark, args.jobs, lambda line: print(line, flush=True))
    table = comparison_table(results, [*benchmark.methods, 'teacher'], benchmark.reference)
    write_csv(results, os.path.join(benchmark.work_dir, 'results.csv'))
    with open(os.path.join(benchmark.work_dir, 'results.md'), 'w') as file:
        file.write(table + '\n')
    print(f'\nTop-1 on the test set after the last epoch; +-: standard deviation over seeds, of a difference its standard '
          f'error.\n\n{table}\n')
    if benchmark.search:
        print(f'process: {benchmark.process}\nfigure:  {os.path.splitext(benchmark.process)[0]}.png')
    print(f'table:   {os.path.join(benchmark.work_dir, "results.md")}')
    if len(results) < len(jobs):
        raise ConfigError(f'{len(jobs) - len(results)} of {len(jobs)} trainings failed, see above; the same command goes '
                          'on with them')


if __name__ == '__main__':
    sys.exit(run(main))
