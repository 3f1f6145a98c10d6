import dataclasses
import itertools
import os
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from mmengine.config import Config

from ..engine.launch import load_config
from ..errors import ConfigError

NEEDED = {'teacher', 'methods', 'reference', 'seeds'}
OPTIONAL = {'pair', 'teacher_ckpt', 'stages', 'budgets', 'tuning', 'longer'}


@dataclasses.dataclass(frozen=True, eq=False)
class Method:
    """A way to train the student, or a stage that comes before one.

    Args:
        name (str): Its name in the tables.
        config (str): Path of its config.
        options (dict): Settings by dotted key on top of the config.
        after (str, optional): Name of the stage that must be done before: a search, or a first stage of training.
        grid (dict or list): Values to try by dotted key, in every combination; or the settings to try, one dict each. Those
            under ``model.`` hold for the stage before too.
        like (str, optional): The method whose tuned settings this one takes, an ablation of it.
        budgets (tuple, optional): Shares of the schedule's epochs; None for those of the benchmark.
        seeds (tuple, optional): Of a stage: its seeds, taken in turn by the methods' runs; None for each run's own.
        shares (bool): Of a stage: whether a method's settings under ``model.`` hold for it. Defaults to True.
    """
    name: str
    config: str
    options: Dict[str, Any] = dataclasses.field(default_factory=dict)
    after: Optional[str] = None
    grid: Union[Dict[str, Sequence], List[Dict[str, Any]]] = dataclasses.field(default_factory=dict)
    like: Optional[str] = None
    budgets: Optional[Tuple[float, ...]] = None
    seeds: Optional[Tuple[int, ...]] = None
    shares: bool = True

    def choices(self) -> List[Dict[str, Any]]:
        """list[dict]: All settings of the grid, at least one."""
        if isinstance(self.grid, list):
            return self.grid
        return [dict(zip(self.grid, values)) for values in itertools.product(*self.grid.values())]


class Benchmark:
    """A comparison of methods that share a teacher, data, a schedule and initial students.

    Read from a config with the one key ``benchmark``, a dict of

    - ``pair`` (optional): the pair of networks, for configs that take one;
    - ``teacher``: config of the teacher, trained once;
    - ``teacher_ckpt`` (optional): a checkpoint of it; it is evaluated and used, and nothing is trained;
    - ``methods``: by name, a config or a dict of ``config``, ``options``, ``after``, ``grid``, ``budgets`` (see
      :class:`Method`); or a dict of ``like``, the name of a method above, and further ``options``;
    - ``stages`` (optional): likewise, what comes before: searches and first stages of training; ``seeds`` gives a stage
      its own, e.g. one search for all runs; ``shares=False``: a method's grid does not hold for it;
    - ``reference``: the method that the others are compared with, pair by pair of seeds;
    - ``seeds``: seeds of every method;
    - ``budgets`` (optional): shares of the schedule's epochs, each a run with a schedule of its own. Defaults to (1, );
    - ``tuning`` (optional): ``dict(ratio=0.2, seeds=[100], budget=1)``: how a method's grid is decided: on that share of
      the training set, held out, by the mean over those seeds;
    - ``longer`` (optional): ``dict(than='distpro', of=['kd', ...])``: the best of these methods is trained once more
      with the compute of that method and its stage together.

    Config paths are relative to the benchmark's file.

    Args:
        path (str): The benchmark's file.
        work_dir (str, optional): Defaults to ``work_dirs/benchmark_<name of the file>``.
        teacher_ckpt (str, optional): In place of the file's.
        only (Sequence[str], optional): Names of the methods to compare; what they are like and the reference come
            along. Defaults to None: all.

    Raises:
        ConfigError: If a key is missing, unknown or out of range, or a config does not exist.
    """

    def __init__(self, path: str, work_dir: Optional[str] = None, teacher_ckpt: Optional[str] = None,
                 only: Optional[Sequence[str]] = None) -> None:
        if not os.path.isfile(path):
            raise ConfigError(f"there is no benchmark '{path}'; those that come with the project are in configs/benchmarks/")
        settings = Config.fromfile(path).get('benchmark')
        if settings is None or set(settings) - NEEDED - OPTIONAL or NEEDED - set(settings):
            raise ConfigError(f"'{path}' is not a benchmark: it needs benchmark=dict(...) with {sorted(NEEDED)} and may "
                              f'have {sorted(OPTIONAL)}, got {sorted(settings or [])}')
        self.name = os.path.splitext(os.path.basename(path))[0]
        self.folder = os.path.dirname(path)
        self.work_dir = work_dir or os.path.join('work_dirs', f'benchmark_{self.name}')
        self.pair: Optional[str] = settings.get('pair')
        self.teacher = self._existing(settings.teacher)
        self.teacher_ckpt: Optional[str] = teacher_ckpt or settings.get('teacher_ckpt')
        if self.teacher_ckpt is not None and not os.path.isfile(self.teacher_ckpt):
            raise ConfigError(f"benchmark.teacher_ckpt='{self.teacher_ckpt}': there is no such file; leave it out to train "
                              'the teacher')
        self.seeds: List[int] = list(settings.seeds)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f'benchmark.seeds={settings.seeds} must be one or more different numbers')
        self.budgets = _budgets(settings.get('budgets', (1, )), 'benchmark.budgets')
        self.stages = self._methods(settings.get('stages', {}), 'benchmark.stages')
        self.methods = self._methods(settings.methods, 'benchmark.methods')
        for name in set(self.methods) & set(self.stages):
            raise ConfigError(f"benchmark: '{name}' is a method and a stage; their runs would share a folder: rename one")
        self.reference: str = settings.reference
        self._one_of(self.reference, self.methods, 'benchmark.reference')
        load_config(self.methods[self.reference].config, pair=self.pair)  # refuses a pair that does not exist
        for method in [*self.methods.values(), *self.stages.values()]:
            if method.after is not None:
                self._one_of(method.after, self.stages, f'benchmark: after of {method.name}')
        self.tuning = {'ratio': 0.2, 'seeds': [100], 'budget': 1, **settings.get('tuning', {})}
        if set(self.tuning) != {'ratio', 'seeds', 'budget'}:
            raise ConfigError(f"benchmark.tuning has {sorted(self.tuning)}; it may have 'ratio', 'seeds' and 'budget'")
        if set(self.tuning['seeds']) & set(self.seeds):
            raise ConfigError(f"benchmark.tuning.seeds={list(self.tuning['seeds'])} are among benchmark.seeds: choose "
                              'others, so that no run that is reported has been chosen')
        self.longer = settings.get('longer')
        if self.longer is not None:
            if set(self.longer) != {'than', 'of'}:
                raise ConfigError(f"benchmark.longer={dict(self.longer)} must have 'than' and 'of'")
            for name in [self.longer.than, *self.longer.of]:
                self._one_of(name, self.methods, 'benchmark.longer')
        if only is not None:
            self._keep(only)

    def _keep(self, only: Sequence[str]) -> None:
        for name in only:
            self._one_of(name, self.methods, '--methods')
        wanted = {self.reference, *only}
        wanted |= {self.methods[name].like for name in wanted}
        self.methods = {name: method for name, method in self.methods.items() if name in wanted}
        if self.longer is not None:
            self.longer.of = [name for name in self.longer.of if name in wanted]
            if self.longer.than not in wanted:
                self.longer = None

    @staticmethod
    def _one_of(name: str, known: Dict[str, Method], key: str) -> None:
        if name not in known:
            raise ConfigError(f"{key}='{name}' is not one of {list(known)}")

    def _existing(self, config: str) -> str:
        path = os.path.normpath(os.path.join(self.folder, config))
        if not os.path.isfile(path):
            raise ConfigError(f"benchmark names the config '{config}', and there is no file '{path}'")
        return path

    def _methods(self, settings: dict, key: str) -> Dict[str, Method]:
        methods: Dict[str, Method] = {}
        for name, given in settings.items():
            given = dict(config=given) if isinstance(given, str) else dict(given)
            known = {'like', 'options', 'budgets'} if 'like' in given else {'config', 'options', 'after', 'grid', 'budgets'}
            if key == 'benchmark.stages':
                known = {'config', 'options', 'seeds', 'shares'}
            if set(given) - known or not {'config', 'like'} & set(given):
                raise ConfigError(f"{key}: '{name}' has {sorted(given)}; it may have {sorted(known)}")
            given['options'] = dict(given.get('options', {}))
            if 'like' in given:
                self._one_of(given['like'], methods, f'{key}: like of {name}')
                other = methods[given['like']]
                if other.like:
                    raise ConfigError(f"{key}: '{name}' is like '{other.name}', which is like '{other.like}': name that one")
                given['options'] = {**other.options, **given['options']}
                given = dict(given, config=other.config, after=other.after)
            else:
                given['config'] = self._existing(given['config'])
                grid = given.get('grid', {})
                given['grid'] = ([dict(settings) for settings in grid] if isinstance(grid, list) else
                                 {option: list(values) for option, values in grid.items()})
            if 'seeds' in given:
                given['seeds'] = tuple(given['seeds'])
            if 'budgets' in given:
                given['budgets'] = _budgets(given['budgets'], f'{key}: budgets of {name}')
            methods[name] = Method(name, **given)
        return methods


def _budgets(given: Sequence[float], key: str) -> Tuple[float, ...]:
    if not given or len(set(given)) < len(given) or not all(0 < budget <= 1 for budget in given):
        raise ConfigError(f'{key}={list(given)} must be one or more different shares in (0, 1]')
    return tuple(sorted(given))
