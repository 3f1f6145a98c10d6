"""Seconds of a training step of each method of a comparison, and their ratios to the reference.

The trainings of all methods take turns in one process, on batches of the data, so that changes of the machine's load
affect all of them. The steps of a turn are spread over the training, because a process may end some pathways early.
Methods that need the result of a search or another stage are left out.

    python benchmarks/method_price.py configs/benchmarks/cifar100_frontier.py --teacher-ckpt work_dirs/teacher/epoch_20.pth
"""
import argparse
import itertools
import statistics
import tempfile

import step_cost  # first: makes the toolbox importable

# isort: split
import torch

from distpro_mm.comparison import Benchmark
from distpro_mm.comparison.benchmark import Method
from distpro_mm.comparison.jobs import JobMaker
from distpro_mm.engine.launch import build_trainer
from distpro_mm.reporting.table import markdown
from machine import describe


def training(maker: JobMaker, method: Method, teacher_ckpt: str, steps: int) -> step_cost.Variant | None:
    """The training of a method, ready for steps that are spread over it; None if it needs a stage."""
    job = maker.run(method, maker.benchmark.seeds[0])
    if len(job.needs) > 1:
        return None
    cfg = job.config
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks', []) if 'InitialStudentHook' not in hook['type']]
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        cfg[key] = None
    cfg.train_cfg.pop('val_interval', None)
    if 'teacher_ckpt' in cfg.model:
        cfg.model.teacher_ckpt = teacher_ckpt
    cfg.update(log_level='ERROR', experiment_name=method.name,
               default_hooks=dict(checkpoint=None, logger=None, param_scheduler=None))
    runner = build_trainer(cfg)
    variant, places = step_cost.ready(runner), itertools.cycle(range(steps))

    def step() -> None:
        runner.train_loop._iter = int((next(places) + 0.5) / steps * runner.max_iters)
        variant.step()

    return step_cost.Variant(step)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('benchmark', help='config of a comparison')
    parser.add_argument('--teacher-ckpt', required=True, help='weights of the teacher')
    parser.add_argument('--methods', nargs='+', metavar='NAME', help="only these of the benchmark's methods (default: all)")
    parser.add_argument('--turns', type=int, default=9, help='turns of each training')
    parser.add_argument('--steps', type=int, default=10, help='steps of a turn')
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(args.benchmark, folder, args.teacher_ckpt, args.methods)
        maker = JobMaker(benchmark)
        found = {name: training(maker, method, args.teacher_ckpt, args.steps) for name, method in benchmark.methods.items()}
        trainings = {name: variant for name, variant in found.items() if variant is not None}
        seconds = step_cost.measure(trainings, args.turns, args.steps)
    rows = [['method', f'ratio to {benchmark.reference}', 'milliseconds', 'fastest to slowest']]
    for name, times in seconds.items():
        ratio = statistics.median(mine / its for mine, its in zip(times, seconds[benchmark.reference]))
        rows.append([name, f'{ratio:.2f}', f'{1000 * statistics.median(times):.1f}',
                     f'{1000 * min(times):.1f} to {1000 * max(times):.1f}'])
    print(f'{describe()}\n\n{markdown(rows)}')


if __name__ == '__main__':
    main()
