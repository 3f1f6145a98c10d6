"""Student, KD, equal weights, ramp and DistPro at their defaults, on different settings.

'general' replays the average of the package's other processes; 'refined' the result of configs/distpro/refine.py.
'constant' has one weight of all features and one of the logits, chosen on the validation images; its pathways are those of
'general'. 'kd_tuned' and 'pursuhint' are baselines whose weights are chosen in the same way.

``python benchmarks/settings/run.py`` trains all unfinished runs and prints the table. Settings for choosing defaults are
measured on images of neither the training nor the test set. The other settings are measured on their test set.
"""
import argparse
import concurrent.futures
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import time

os.environ.setdefault('OMP_NUM_THREADS', '1')
sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

import data  # noqa: E402  first: makes the toolbox importable
import machine  # noqa: E402
import settings as known  # noqa: E402
from climb import climb  # noqa: E402
from distpro.pathways.weights import SCHEDULED  # noqa: E402
from distpro.process import DistillationProcess, average_processes, load_process  # noqa: E402
from distpro_mm.errors import NotLearnedError, TrainingError  # noqa: E402
from table import table  # noqa: E402

METHODS = ('student', 'kd', 'equal', 'kd_tuned', 'pursuhint', 'constant', 'ramp', 'general', 'refined', 'distpro')
TUNINGS = dict(constant='tuning', kd_tuned='kd_tuning', pursuhint='pursuhint_tuning')
START = dict(tuning=(100, 3), kd_tuning=(0.9, ), pursuhint_tuning=(33.0, 0.9))  # weights that are tried first
SEARCHES = dict(distpro='search', refined='refinement', **TUNINGS)  # methods that use the result of a search
TUNING_SEED = 100
SEEDS = (0, 1, 2)


def train(cfg: Config) -> float | None:
    """Train a config in its work_dir; accuracy in % after the last epoch, None for a search."""
    cfg.experiment_name = f'run_{time.time_ns()}'
    runner = Runner.from_cfg(cfg)
    try:
        runner.train()
    except NotLearnedError as error:  # a result like any other
        print(f'warning: {error}')
    scalars = runner.message_hub.log_scalars
    return float(scalars['val/accuracy/top1'].current()) if 'val/accuracy/top1' in scalars else None


class Bench:
    """The runs of one setting. Finished runs are not repeated.

    Args:
        name (str): The setting.
        work_dir (str): Folder of all settings.
        seeds (Sequence[int]): Seeds of the runs. The search uses the first one and its process is replayed with all.
        scheduled (Sequence[str]): What is searched for beside the weights, ``train_cfg.scheduled``. Defaults to none.
    """

    def __init__(self, name: str, work_dir: str, seeds=SEEDS, scheduled=()) -> None:
        self.scheduled = list(scheduled)
        self.name, self.setting, self.seeds = name, known.SETTINGS[name], seeds
        self.part = 'val' if self.setting.for_choosing else 'test'
        self.folder = os.path.join(work_dir, name)
        self.file = os.path.join(self.folder, 'images.npz')
        self.teacher_ckpt = os.path.join(self.folder, 'teacher.pth')

    @functools.cached_property
    def general(self) -> str:
        """str: File of the average of the package's processes without the one of this setting."""
        others = [name for name in load_process('general').origin['average_of'] if name != self.setting.library]
        process = average_processes([load_process(name) for name in others])
        process.origin = dict(average_of=others)
        file = os.path.join(self.folder, 'general.json')
        process.save(file)
        return file

    def config(self, method: str, seed: int, weights: tuple[float, ...] = ()) -> Config:
        """The config of a run; a tuning has the given weights, or the first ones."""
        setting = self.setting
        if method in START:
            weights = weights or START[method]
        elif method in TUNINGS:
            weights = self.tuned(TUNINGS[method])
        part = 'val' if method in START else self.part
        cfg = known.base_config(setting, self.file, os.path.join(self.folder, f'{method}_{seed}'), seed, part,
                                setting.teacher_part if method == 'teacher' else 'train')
        optimizer, epochs, train_cfg = setting.optimizer, setting.epochs, None
        if method == 'teacher':
            own = known.SGD if optimizer['type'] == 'AdamW' else optimizer
            optimizer, epochs = setting.teacher_optimizer or own, setting.teacher_epochs
        elif method in ('search', 'refinement'):
            train_cfg = dict(type='mmrazor.DistProSearchLoop', max_epochs=epochs)
            if method == 'refinement':
                own = Config.fromfile(machine.ROOT / 'configs/distpro/refine.py').train_cfg
                train_cfg = {**own, **train_cfg, 'initial': self.general}
            if self.scheduled:
                train_cfg['scheduled'] = self.scheduled
        known.schedule(cfg, optimizer, epochs, train_cfg)
        if method in ('student', 'teacher'):
            cfg.model = known.with_classes(getattr(setting, method), setting.classes)
        elif method in ('kd', 'kd_tuned', 'kd_tuning'):
            cfg.model = known.plain_kd(setting, self.teacher_ckpt, *weights)
        elif method in ('pursuhint', 'pursuhint_tuning'):
            cfg.model = known.pursuhint(setting, self.teacher_ckpt, *weights)
        else:
            cfg.model = known.distilled(setting, self.teacher_ckpt)
            if method not in ('equal', 'ramp', 'search', 'distpro'):  # as in configs/distpro/distill.py
                cfg.model.distiller.connections = 'nearest_depth'
        replay = dict(
            ramp=lambda: dict(process=known.RAMP), general=lambda: dict(process=self.general, transfer='by_depth'),
            tuning=lambda: dict(process=known.constant(*weights)),
            constant=lambda: dict(process=known.constant(*weights)),
            distpro=lambda: dict(process=self.process('search')), refined=lambda: dict(process=self.process('refinement')))
        if method in replay:
            cfg.custom_hooks = [dict(type='mmrazor.ProcessReplayHook', **replay[method]())]
        return cfg

    def process(self, search: str) -> str:
        """str: File of the process of a search."""
        return os.path.join(self.folder, 'process.json' if search == 'search' else f'{search}.json')

    def tuned(self, tuning: str) -> tuple[float, ...]:
        """The weights that :meth:`tune` found."""
        with open(self.result_file(tuning, self.seeds[0])) as file:
            return tuple(json.load(file)['origin']['best'])

    def tune(self, tuning: str) -> dict:
        """The weights with the best validation accuracy, see :func:`climb.climb`."""
        def accuracy(weights: tuple[float, ...]) -> float | None:
            try:
                return train(self.config(tuning, TUNING_SEED, weights))
            except TrainingError as error:
                print(f'{self.name} {tuning} {weights}: {error}')
                return None

        return climb(accuracy, START[tuning])

    def result_file(self, method: str, seed: int) -> str:
        """str: File of the result of a run."""
        return os.path.join(self.folder, f'{method}_{seed}.json')

    def key(self, method: str, seed: int, needs: str) -> str:
        """Hash of a run's config and of the results that it depends on."""
        return hashlib.sha256((self.config(method, seed).pretty_text + needs).encode()).hexdigest()[:16]

    def done(self, method: str, seed: int, needs: str) -> dict | None:
        """Result of a run, None if it does not exist or is of a different config."""
        path = self.result_file(method, seed)
        if not os.path.exists(path):
            return None
        with open(path) as file:
            result = json.load(file)
        return result if result['key'] == self.key(method, seed, needs) else None

    def needs(self, method: str, results: dict[str, dict]) -> str | None:
        """Results of teacher and search that a method depends on; None if one is missing or failed."""
        if method == 'student':
            return ''
        needed = [results.get(name) for name in ('teacher', *((SEARCHES[method], ) if method in SEARCHES else ()))]
        if any(result is None or result['failed'] is not None for result in needed):
            return None
        process = _hash(self.general) if method in ('general', 'refinement') else ''
        return ''.join(result['key'] + result.get('process', '') for result in needed) + process

    def run(self, method: str, seed: int, needs: str = '') -> dict:
        """Result of a run. Trains if there is no result for the present config."""
        result = self.done(method, seed, needs)
        if result is not None:
            return result
        cfg, key = self.config(method, seed), self.key(method, seed, needs)
        path = self.result_file(method, seed)
        started, accuracy, failed, tuned = time.time(), None, None, None
        try:
            if method in START:
                tuned = self.tune(method)
            else:
                accuracy = train(cfg)
        except TrainingError as error:
            failed = str(error)
        result = dict(key=key, setting=self.name, method=method, seed=seed, accuracy=accuracy, failed=failed,
                      seconds=time.time() - started)
        if method == 'teacher' and failed is None:
            torch.save(dict(state_dict=torch.load(os.path.join(cfg.work_dir, f'epoch_{self.setting.teacher_epochs}.pth'),
                                                  weights_only=False)['state_dict'], meta={}), self.teacher_ckpt)
        if tuned is not None:
            result.update(origin=tuned, process=str(tuned['best']))
        elif method in SEARCHES.values() and failed is None:
            shutil.copy(os.path.join(cfg.work_dir, 'process.json'), self.process(method))
            process = DistillationProcess.load(self.process(method))
            result['origin'] = {entry: process.origin[entry] for entry in ('trials', 'best', 'guessing')}
            result['pathways'] = len(process.names)
            result['process'] = hashlib.sha256(json.dumps(process.to_dict()).encode()).hexdigest()[:16]
        shutil.rmtree(cfg.work_dir, ignore_errors=True)
        with open(f'{path}.tmp', 'w') as file:
            json.dump(result, file)
        os.replace(f'{path}.tmp', path)
        outcome = failed or (f'{accuracy:.1f}%' if accuracy is not None else '')
        print(f'{self.name} {method} {seed}: {outcome} ({result["seconds"]:.0f} s)', flush=True)
        return result

    def needed(self) -> dict[str, dict]:
        """Results of teacher and searches, as far as they are finished."""
        found = dict(teacher=self.done('teacher', 0, ''))
        for search in SEARCHES.values():
            needs = self.needs(search, found)
            if needs is not None:
                found[search] = self.done(search, self.seeds[0], needs)
        return {name: result for name, result in found.items() if result is not None}

    def run_one(self, method: str, seed: int) -> None:
        """Train a run if it is unfinished and its dependencies are finished."""
        torch.set_num_threads(1)
        needs = '' if method == 'teacher' else self.needs(method, self.needed())
        if needs is not None:
            self.run(method, seed, needs)

    def followers(self, method: str, methods=METHODS) -> list[tuple[str, int]]:
        """Method and seed of the runs that depend on this one (None: on no run), most expensive first."""
        after: dict[str | None, list[str]] = {
            None: ['teacher', 'student'], 'teacher': [*SEARCHES.values(), 'equal', 'ramp', 'general', 'kd'],
            **{search: [name] for name, search in SEARCHES.items()}}
        runs = []
        for follower in after.get(method, []):
            once = dict(teacher=0, **dict.fromkeys(SEARCHES.values(), self.seeds[0]))
            needed = dict(teacher=True, **{search: name in methods for name, search in SEARCHES.items()})
            wanted = needed.get(follower, follower in methods)
            runs += [(follower, seed) for seed in ([once[follower]] if follower in once else self.seeds) if wanted]
        return runs

    def results(self) -> list[dict]:
        """Results of all finished runs."""
        before = self.needed()
        found: list[dict | None] = list(before.values())
        for method in METHODS:
            needs = self.needs(method, before)
            found += [self.done(method, seed, needs) for seed in self.seeds if needs is not None]
        return [result for result in found if result is not None]


def _hash(file: str) -> str:
    with open(file, 'rb') as content:
        return hashlib.sha256(content.read()).hexdigest()[:16]


def run_all(benches: list[Bench], methods: tuple[str, ...], jobs: int) -> None:
    """Train all unfinished runs, several at once, each as soon as its dependencies are finished."""
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        running: dict[concurrent.futures.Future, tuple[Bench, str]] = {}

        def follow(bench: Bench, method: str | None) -> None:
            for follower, seed in bench.followers(method, methods):
                running[pool.submit(bench.run_one, follower, seed)] = bench, follower

        for bench in benches:
            if not os.path.exists(bench.file):
                data.save(bench.setting.data(), bench.file)
            follow(bench, None)
        while running:
            for done in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done:
                bench, method = running.pop(done)
                done.result()
                follow(bench, method)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--settings', nargs='+', choices=sorted(known.SETTINGS), help='these alone; default: all of --which')
    parser.add_argument('--which', choices=('choosing', 'held_out', 'all'), default='all', help='which settings')
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS)
    parser.add_argument('--seeds', nargs='+', type=int, default=SEEDS)
    parser.add_argument('--jobs', type=int, default=2, help='trainings at once, one thread each')
    parser.add_argument('--work-dir', default='work_dirs/settings')
    parser.add_argument('--scheduled', nargs='+', default=[], choices=SCHEDULED, help='searched for beside the weights')
    parser.add_argument('--table', action='store_true', help='print the table of what is done; train nothing')
    args = parser.parse_args()
    names = args.settings or [name for name, setting in known.SETTINGS.items()
                              if args.which == 'all' or setting.for_choosing == (args.which == 'choosing')]
    names.sort(key=lambda name: known.SETTINGS[name].for_choosing)
    benches = [Bench(name, args.work_dir, tuple(args.seeds), args.scheduled) for name in names]
    if not args.table:
        os.environ['OMP_NUM_THREADS'] = '1'
        run_all(benches, tuple(args.methods), args.jobs)
    print(f'{machine.describe()}\n\n{table(benches, METHODS)}')


if __name__ == '__main__':
    main()
