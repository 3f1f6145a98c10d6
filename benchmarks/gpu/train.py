"""Student, KD, equal weights, ramp and DistPro on CIFAR-100, side by side on one GPU, from one packed file.

The teacher is trained first, for as many epochs as fit into a time limit. Then the search runs, and then all other
trainings at once. Each finished run adds a row to ``train.csv``.

    python benchmarks/gpu/train.py --out work_dirs/gpu [--rehearse]
"""
import argparse
import concurrent.futures
import csv
import dataclasses
import functools
import hashlib
import multiprocessing
import os
import pathlib
import shutil
import sys
import time

os.environ.setdefault('OMP_NUM_THREADS', '1')
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / 'settings'), str(HERE.parent)]

import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402

import data  # noqa: E402  first: makes the toolbox importable
import run as settings_run  # noqa: E402
import settings as known  # noqa: E402
from packed import unpack  # noqa: E402

NAME = 'cifar100_gpu'
METHODS = ('distpro', 'kd', 'ramp', 'equal', 'student')
COLUMNS = ('method', 'seed', 'accuracy', 'epochs', 'seconds', 'finished', 'failed')


def setting(packed: str, epochs: int, teacher_epochs: int, limit: int | None, tiny: bool) -> known.Setting:
    """The setting, for :class:`benchmarks.settings.run.Bench`."""
    def network(depth: int, width: int) -> dict:  # resnet32x4 and resnet8x4 of the literature
        backbone = dict(type='CIFARResNet', depth=depth, stem_channels=width // 2, channels=(width, 2 * width, 4 * width))
        return known.classifier(backbone, 4 * width)

    teacher, student = (network(8, 8), network(8, 8)) if tiny else (network(32, 64), network(8, 64))
    return known.Setting(data=functools.partial(unpack, packed, limit), size=(3, 32, 32), classes=100, teacher=teacher,
                         student=student, epochs=epochs, teacher_epochs=teacher_epochs, batch_size=20 if tiny else 256,
                         optimizer=known.SGD_HIGH)


class GPUBench(settings_run.Bench):
    """The runs of the setting; the teacher in bfloat16.

    Args:
        setting (Setting): The setting.
        work_dir (str): Folder of all results.
        seeds (Sequence[int]): Seeds of the students.
        min_iterations (int): Of the search; the package's default is 200.
    """

    def __init__(self, setting: known.Setting, work_dir: str, seeds, min_iterations: int = 100) -> None:
        known.SETTINGS[NAME] = setting
        super().__init__(NAME, work_dir, seeds)
        self.min_iterations = min_iterations

    def config(self, method: str, seed: int) -> Config:
        """The config of a run."""
        cfg = super().config(method, seed)
        if method == 'teacher':
            cfg.optim_wrapper.type = 'mmrazor.BFloat16OptimWrapper'
        elif method == 'search':
            cfg.train_cfg.min_iterations = self.min_iterations
        return cfg

    def key(self, method: str, seed: int, needs: str) -> str:
        """As in the parent, without formatting the config, which takes seconds."""
        return hashlib.sha256((str(self.config(method, seed).to_dict()) + needs).encode()).hexdigest()[:16]


def one_run(bench: GPUBench, method: str, seed: int) -> dict:
    """Train, or return the error. Runs in a process of the pool."""
    torch.set_num_threads(1)
    results = dict(teacher=bench.done('teacher', 0, ''))
    if method == 'distpro':
        results['search'] = bench.done('search', bench.seeds[0], bench.needs('equal', results))
    needs = bench.needs(method, results)
    if needs is None:
        return dict(method=method, seed=seed, failed='the teacher or the search failed')
    return bench.run(method, seed, needs)


def warm() -> None:
    """Import all, and create the context of the GPU."""
    torch.zeros(1, device='cuda' if torch.cuda.is_available() else 'cpu')


def teacher_epochs(bench: GPUBench, seconds: float) -> int:
    """Epochs that fit into a time, estimated from three short runs on this device."""
    times = []
    for epochs in (1, 1, 4):  # the first one also pays for the start of the GPU
        setting = dataclasses.replace(bench.setting, teacher_epochs=epochs)
        trial = GPUBench(setting, os.path.join(bench.folder, 'timing'), (0, ))
        os.makedirs(trial.folder, exist_ok=True)
        shutil.copy(bench.file, trial.file)
        start = time.perf_counter()
        settings_run.train(trial.config('teacher', 0))
        times.append(time.perf_counter() - start)
    known.SETTINGS[NAME] = bench.setting
    epoch = max((times[2] - times[1]) / 3, times[2] / 8)
    print(f'an epoch of the teacher takes {epoch:.2f} s', flush=True)
    return max(2, int((seconds - sum(times)) / epoch))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', default='work_dirs/gpu')
    parser.add_argument('--packed', default='.gpu/cifar100.npz', help='a file of packed.py')
    parser.add_argument('--epochs', type=int, default=10, help='epochs of a student')
    parser.add_argument('--min-iterations', type=int, default=100, help='of a round; the package has 200')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--jobs', type=int, default=8, help='processes at once')
    parser.add_argument('--teacher-seconds', type=float, default=50)
    parser.add_argument('--rehearse', action='store_true', help='tiny networks on a few images, one seed, two epochs')
    args = parser.parse_args()
    if args.rehearse:
        args.epochs, args.seeds, args.jobs, args.teacher_seconds, args.min_iterations = 2, [0], 2, 0, 4
    limit = 500 if args.rehearse else None
    work_dir = os.path.join(args.out, 'runs')
    rest = work_dir, tuple(args.seeds), args.min_iterations
    bench = GPUBench(setting(args.packed, args.epochs, 1, limit, args.rehearse), *rest)
    context = multiprocessing.get_context('spawn')
    started = time.time()
    with open(os.path.join(args.out, 'train.csv'), 'w', newline='') as file, \
            concurrent.futures.ProcessPoolExecutor(args.jobs, mp_context=context) as pool:
        writer = csv.DictWriter(file, COLUMNS, extrasaction='ignore')
        writer.writeheader()

        def write(result: dict) -> None:
            epochs = bench.setting.teacher_epochs if result['method'] == 'teacher' else args.epochs
            figures = {key: round(result[key], 2) for key in ('accuracy', 'seconds') if result.get(key) is not None}
            writer.writerow({**result, **figures, 'epochs': epochs, 'finished': round(time.time() - started, 1)})
            file.flush()

        for _ in range(args.jobs):
            pool.submit(warm)
        data.save(bench.setting.data(), bench.file)
        epochs = teacher_epochs(bench, args.teacher_seconds)
        bench = GPUBench(dataclasses.replace(bench.setting, teacher_epochs=epochs), *rest)
        write(bench.run('teacher', 0))
        weights = {name: value.half() if value.is_floating_point() else value for name, value in
                   torch.load(bench.teacher_ckpt)['state_dict'].items()}
        torch.save(dict(state_dict=weights, meta={}), os.path.join(args.out, 'teacher_half.pth'))
        running = {pool.submit(one_run, bench, 'search', args.seeds[0])}  # alone: beside others it takes many times as long
        waiting = [(method, seed) for seed in args.seeds for method in METHODS]
        while running:
            done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                try:
                    result = future.result()
                except Exception as error:  # the other runs continue
                    print(f'error: {type(error).__name__}: {error}', flush=True)
                else:
                    write(result)
                    if result['method'] == 'search' and result['failed'] is None:
                        shutil.copy(os.path.join(bench.folder, 'process.json'), args.out)
                running |= {pool.submit(one_run, bench, *run) for run in waiting}
                waiting = []
    print(settings_run.table([bench]), flush=True)


if __name__ == '__main__':
    main()
