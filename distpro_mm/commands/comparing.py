"""A comparison of methods, with its tables and figures."""
import glob
import os
from collections.abc import Sequence

from distpro.checks import check_choice
from distpro.errors import argument_prefix

from ..comparison import Benchmark, LiveLine, run_benchmark
from ..engine.provenance import command, versions
from ..engine.ray_pool import RayOptions
from ..errors import ConfigError
from ..reporting import budgets_table, choices_table, comparison_table, draw_accuracy, reach_table, write_csv
from ..reporting.comparison_report import write_comparison
from ..reporting.report import ReportError, write_report

ENGINES = ('local', 'ray')


def compare(path: str, work_dir: str | None = None, teacher_ckpt: str | None = None, methods: Sequence[str] | None = None,
            jobs: int | None = None, engine: str = 'local', **ray) -> None:
    """Train every method of a benchmark, skip trainings that are done, and write and print tables and figures.

    Args:
        path (str): The benchmark's config.
        work_dir (str, optional): Folder of all results. Defaults to None: ``work_dirs/benchmark_<name>``.
        teacher_ckpt (str, optional): A checkpoint of the teacher; no teacher is trained then. Defaults to None.
        methods (Sequence[str], optional): Only these of the benchmark's methods. Defaults to None: all.
        jobs (int, optional): Trainings at a time, >= 1. Defaults to None: one per GPU, or per core; on a cluster, as many
            as it has room for.
        engine (str): 'local': this machine trains; 'ray': the nodes of a Ray cluster do. Defaults to 'local'.
        **ray: Arguments of :class:`.RayOptions`; those that are None have their defaults.

    Raises:
        ConfigError: If the benchmark or an argument is invalid, the cluster cannot be used, or trainings failed.
    """
    check_choice('--engine', engine, ENGINES, ConfigError)
    given = {name: value for name, value in ray.items() if value is not None}
    if given and engine != 'ray':
        raise ConfigError(f'--{next(iter(given))} is for --engine ray, and --engine is {engine}')
    with argument_prefix('--', ConfigError):
        cluster = RayOptions(**given) if engine == 'ray' else None
    benchmark = Benchmark(path, work_dir, teacher_ckpt, methods)
    print(f'{benchmark.name}: {len(benchmark.methods)} methods, {len(benchmark.seeds)} seeds, in {benchmark.work_dir}',
          flush=True)
    with LiveLine() as line:
        done = run_benchmark(benchmark, jobs, lambda text: print(text, flush=True), line.show, cluster)
    tables = _write_tables(benchmark, done['results'], done['choices'])
    _write_report(benchmark, done)
    print('\nTop-1 on the test set after the last epoch; +-: standard deviation over seeds; differences are between runs of '
          f'the same seed.\n\n{tables}\n')
    print(f'tables and figures: {benchmark.work_dir}/')
    for figure in sorted(glob.glob(os.path.join(benchmark.work_dir, '*', 'seed_*', 'process.png'))):
        print(f'process: {figure}')
    if done['failed']:
        raise ConfigError(f'{done["failed"]} trainings failed, see above; the same command trains them again')


def _names(benchmark: Benchmark) -> list[str]:
    """Names of all methods, with those that are trained for longer."""
    return [*benchmark.methods, *(f'{name}_longer' for name in (benchmark.extended_to or {}).get('best_of', ()))]


def _write_report(benchmark: Benchmark, done: dict) -> None:
    """Write the report of a benchmark that has been run."""
    with open(benchmark.path) as file:
        config = file.read()
    write_comparison(benchmark.work_dir, done['results'], done['choices'], name=benchmark.name, methods=_names(benchmark),
                     reference=benchmark.reference, failed=done['failed'], command=command(), versions=versions(),
                     config=config)
    try:
        print(f'report: {write_report(benchmark.work_dir)}')
    except ReportError as error:
        print(f'no report.html was written: {error}')


def _write_tables(benchmark: Benchmark, results: list, choices: list) -> str:
    """Write the tables and figures of a benchmark that has been run, and return the tables."""
    names = _names(benchmark)
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
    return '\n\n'.join(parts)
