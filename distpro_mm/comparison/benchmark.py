import dataclasses
import os
from typing import Dict, List, Optional, Sequence

from mmengine.config import Config

from ..engine.launch import load_config, replay_hooks
from ..errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Job:
    """One training of a benchmark.

    Args:
        name (str): Name of the method, or 'teacher' or 'search'.
        seed (int): Random seed.
        config (str): Path of the config.
        work_dir (str): Where it runs.
        needs (tuple[str]): Names of the jobs that must be done before.
        pair (str, optional): The pair that the config is read for.
    """
    name: str
    seed: int
    config: str
    work_dir: str
    needs: tuple = ()
    pair: Optional[str] = None


class Benchmark:
    """A comparison of methods that share a teacher, data and a schedule.

    Read from a config with the one key ``benchmark``, a dict of

    - ``pair`` (optional): the pair of networks that ``search`` and ``methods`` are read for;
    - ``teacher``: config of the teacher, trained once;
    - ``search`` (optional): config of the search, made once;
    - ``methods``: configs by name; those with a ``ProcessReplayHook`` replay the process of ``search``;
    - ``reference``: the method that the others are compared with, pair by pair of seeds;
    - ``seeds``: seeds of every method.

    Config paths are relative to the benchmark's file.

    Args:
        path (str): The benchmark's file.
        work_dir (str, optional): Defaults to ``work_dirs/benchmark_<name of the file>``.

    Raises:
        ConfigError: If a key is missing or unknown, or a config does not exist.
    """

    def __init__(self, path: str, work_dir: Optional[str] = None) -> None:
        if not os.path.isfile(path):
            raise ConfigError(f"there is no benchmark '{path}'; those that come with the project are in configs/benchmarks/")
        settings = Config.fromfile(path).get('benchmark')
        needed = {'teacher', 'methods', 'reference', 'seeds'}
        if settings is None or set(settings) - needed - {'pair', 'search'} or needed - set(settings):
            raise ConfigError(f"'{path}' is not a benchmark: it needs benchmark=dict(...) with {sorted(needed)} and may "
                              f"have 'pair' and 'search', got {sorted(settings or [])}")
        if settings.reference not in settings.methods:
            raise ConfigError(f"benchmark.reference='{settings.reference}' is not one of the methods "
                              f'{list(settings.methods)}')
        if not settings.seeds or len(set(settings.seeds)) < len(settings.seeds):
            raise ConfigError(f'benchmark.seeds={settings.seeds} must be one or more different numbers')
        self.name = os.path.splitext(os.path.basename(path))[0]
        self.folder = os.path.dirname(path)
        self.work_dir = work_dir or os.path.join('work_dirs', f'benchmark_{self.name}')
        self.pair: Optional[str] = settings.get('pair')
        self.reference: str = settings.reference
        self.methods: Dict[str, str] = {name: self._existing(config) for name, config in settings.methods.items()}
        self.seeds: Sequence[int] = list(settings.seeds)
        self.teacher = self._existing(settings.teacher)
        self.search = self._existing(settings.search) if settings.get('search') else None

    def _existing(self, config: str) -> str:
        path = os.path.normpath(os.path.join(self.folder, config))
        if not os.path.isfile(path):
            raise ConfigError(f"benchmark names the config '{config}', and there is no file '{path}'")
        return path

    @property
    def process(self) -> str:
        """str: Path of the searched process."""
        return os.path.join(self.work_dir, 'search', 'process.json')

    def jobs(self) -> List[Job]:
        """list[Job]: All trainings, in an order in which they can run one by one.

        Raises:
            ConfigError: If a method replays a process and the benchmark has no search.
        """
        jobs = [Job('teacher', self.seeds[0], self.teacher, os.path.join(self.work_dir, 'teacher'))]
        if self.search:
            jobs.append(Job('search', self.seeds[0], self.search, os.path.join(self.work_dir, 'search'), ('teacher', ),
                            self.pair))
        for seed in self.seeds:
            for name, config in self.methods.items():
                cfg = load_config(config, pair=self.pair)
                needs = ('teacher', ) if 'teacher_ckpt' in cfg.model else ()
                if replay_hooks(cfg):
                    if not self.search:
                        raise ConfigError(f"benchmark.methods: '{name}' replays a process, and benchmark.search is missing")
                    needs += ('search', )
                jobs.append(Job(name, seed, config, os.path.join(self.work_dir, name, f'seed_{seed}'), needs,
                                self.pair))
        return jobs
