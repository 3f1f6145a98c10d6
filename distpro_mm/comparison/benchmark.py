"""The config of a benchmark: which methods are compared, and how."""
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from distpro.checks import check_keywords, check_whole, nearest
from distpro.files import nearest_path

from ..engine.config_file import load_config
from ..errors import ConfigError
from .grid import check_grid
from .searched_tuning import check_searcher

REQUIRED = {'teacher', 'methods', 'reference', 'seeds'}
OPTIONAL = {'pair', 'teacher_ckpt', 'stages', 'budgets', 'tuning', 'evaluations', 'extended_to'}
METHOD_KEYS = {'config', 'options', 'grid', 'searcher', 'budgets'}
ABLATION_KEYS = {'ablation_of', 'options', 'budgets'}
STAGE_KEYS = {'config', 'options', 'seeds', 'shares_grid'}
TEACHER = 'teacher'  # the name of its training
RESERVED = (TEACHER, 'initial', 'tuning')  # folders of the work_dir


@dataclasses.dataclass(frozen=True, eq=False)
class Method:
    """A way to train the student, or a stage: a training whose result methods use, such as a search.

    Args:
        name (str): Name in the tables.
        config (str): Path of the config.
        options (dict): Settings by dotted key on top of the config.
        grid (dict or list): By dotted key, the values to try, as :func:`.grid.check_grid` returns them: one key after the
            other. Or a list of dicts of settings to try. Settings under ``model.`` hold for the method's stage too.
        searcher (dict, optional): A search that chooses from the lists of the grid together, see
            :class:`.searched_tuning.SearchedTuning`. Defaults to None.
        ablation_of (str, optional): The method of which this one is an ablation: it takes the settings that were chosen for
            that method. Defaults to None.
        budgets (tuple, optional): Shares of the schedule's epochs, in (0, 1]. Defaults to None: those of the benchmark.
        seeds (tuple, optional): Of a stage: seeds, which the runs of a method use in turn. Defaults to None: the seed of
            the run.
        shares_grid (bool): Of a stage: whether a method's settings under ``model.`` hold for it. Defaults to True.
    """
    name: str
    config: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    grid: dict[str, Any] | list[dict[str, Any]] = dataclasses.field(default_factory=dict)
    searcher: dict[str, Any] | None = None
    ablation_of: str | None = None
    budgets: tuple[float, ...] | None = None
    seeds: tuple[int, ...] | None = None
    shares_grid: bool = True


class Benchmark:
    """A comparison of methods with the same teacher, data, schedule and initial students.

    Read from a config with the single key ``benchmark``, a dict of

    - ``pair`` (optional): the pair of networks, for configs that take one;
    - ``teacher``: config of the teacher, which is trained once;
    - ``teacher_ckpt`` (optional): a checkpoint of the teacher; it is evaluated and used, and no teacher is trained;
    - ``methods``: by name, a config or a dict of ``config``, ``options``, ``grid``, ``searcher`` and ``budgets`` (see
      :class:`Method`); or a dict of ``ablation_of``, the name of a method above, and further ``options`` and ``budgets``;
    - ``stages`` (optional): likewise, trainings whose results methods use: searches and first stages. ``seeds`` gives a
      stage its own seeds, e.g. one search for all runs; ``shares_grid=False``: a method's grid does not hold for it. A
      method uses the result of a stage where its config or ``options`` have ``'stage://<stage>/process'`` (of a search)
      or ``'stage://<stage>/checkpoint'`` in place of a path;
    - ``reference``: the method that the others are compared with, seed by seed;
    - ``seeds``: seeds of every method;
    - ``budgets`` (optional): shares of the schedule's epochs; each is a run with its own schedule. Defaults to (1, );
    - ``tuning`` (optional): how settings are chosen from a grid: ``ratio``, the share of the training images that is held
      out, ``seeds``, over which the accuracy is averaged, ``budget``, the share of the epochs, and ``widen``, the largest
      number of values that are added to those of a key while the best one is at an edge. Defaults to
      ``dict(ratio=0.2, seeds=[100], budget=1, widen=4)``;
    - ``evaluations`` (optional): how often a run that is reported is evaluated, at even distances, the last time after the
      last epoch, whose accuracy counts. Defaults to 1;
    - ``extended_to`` (optional): ``dict(compute_of='distpro', best_of=['kd', ...])``: the best method of ``best_of`` is
      trained again with as much compute as ``compute_of`` and its stage together.

    Config paths are relative to the benchmark's file.

    Args:
        path (str): The benchmark's file.
        work_dir (str, optional): Defaults to ``work_dirs/benchmark_<name of the file>``.
        teacher_ckpt (str, optional): Replaces that of the file.
        only (Sequence[str], optional): Names of the methods to compare, together with the reference and the methods of which
            they are ablations. Defaults to None: all.

    Raises:
        ConfigError: If a key is missing, unknown or out of range, or a config does not exist.
    """

    def __init__(self, path: str, work_dir: str | None = None, teacher_ckpt: str | None = None,
                 only: Sequence[str] | None = None) -> None:
        if not os.path.isfile(path):
            raise ConfigError(f"there is no benchmark '{path}'{nearest_path(path)}; the project's benchmarks are in "
                              'configs/benchmarks/')
        settings = Config.fromfile(path).get('benchmark')
        check_keywords('benchmark', settings or (), sorted(REQUIRED | OPTIONAL), ConfigError)
        if settings is None or REQUIRED - set(settings):
            raise ConfigError(f"'{path}' is not a benchmark: it needs benchmark=dict(...) with {sorted(REQUIRED)} and may "
                              f'have {sorted(OPTIONAL)}, got {sorted(settings or [])}')
        self.name = os.path.splitext(os.path.basename(path))[0]
        self.path, self.folder = path, os.path.dirname(path)
        self.work_dir = work_dir or os.path.join('work_dirs', f'benchmark_{self.name}')
        self.pair: str | None = settings.get('pair')
        self.teacher = self._existing(settings.teacher)
        self.teacher_ckpt: str | None = teacher_ckpt or settings.get('teacher_ckpt')
        if self.teacher_ckpt is not None and not os.path.isfile(self.teacher_ckpt):
            raise ConfigError(f"benchmark.teacher_ckpt='{self.teacher_ckpt}': there is no such file"
                              f'{nearest_path(self.teacher_ckpt)}; leave it out to train the teacher')
        self.seeds: list[int] = list(settings.seeds) if isinstance(settings.seeds, (list, tuple)) else []
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f'benchmark.seeds={settings.seeds} must be one or more different numbers')
        self.budgets = _budgets(settings.get('budgets', (1, )), 'benchmark.budgets')
        self.stages = self._methods(settings.get('stages', {}), 'benchmark.stages')
        self.methods = self._methods(settings.methods, 'benchmark.methods')
        for name in set(self.methods) & set(self.stages):
            raise ConfigError(f"benchmark: '{name}' is a method and a stage, and their trainings would share a folder: "
                              'rename one of them')
        self.reference: str = settings.reference
        self._one_of(self.reference, self.methods, 'benchmark.reference')
        load_config(self.methods[self.reference].config, pair=self.pair)  # refuses a pair that does not exist
        self.evaluations: int = settings.get('evaluations', 1)
        check_whole('benchmark.evaluations', self.evaluations, error=ConfigError)
        self.tuning = {'ratio': 0.2, 'seeds': [100], 'budget': 1, 'widen': 4, **settings.get('tuning', {})}
        check_keywords('benchmark.tuning', self.tuning, ('ratio', 'seeds', 'budget', 'widen'), ConfigError)
        check_whole('benchmark.tuning.widen', self.tuning['widen'], least=0, error=ConfigError)
        if set(self.tuning['seeds']) & set(self.seeds):
            raise ConfigError(f"benchmark.tuning.seeds={list(self.tuning['seeds'])} are among benchmark.seeds: use "
                              'different ones, because settings must not be chosen by a run that is reported')
        self.extended_to: ConfigDict | None = settings.get('extended_to')
        if self.extended_to is not None:
            if set(self.extended_to) != {'compute_of', 'best_of'}:
                raise ConfigError(f"benchmark.extended_to={dict(self.extended_to)} must have 'compute_of' and 'best_of'")
            for name in [self.extended_to.compute_of, *self.extended_to.best_of]:
                self._one_of(name, self.methods, 'benchmark.extended_to')
        if only is not None:
            self._select(only)

    def _select(self, only: Sequence[str]) -> None:
        for name in only:
            self._one_of(name, self.methods, '--methods')
        selected = {self.reference, *only}
        selected |= {self.methods[name].ablation_of for name in selected}
        self.methods = {name: method for name, method in self.methods.items() if name in selected}
        if self.extended_to is not None:
            self.extended_to.best_of = [name for name in self.extended_to.best_of if name in selected]
            if self.extended_to.compute_of not in selected:
                self.extended_to = None

    @staticmethod
    def _one_of(name: str, known: dict[str, Method], key: str) -> None:
        if name not in known:
            raise ConfigError(f"{key}='{name}' is not one of {list(known)}{nearest(name, known)}")

    def _existing(self, config: str) -> str:
        path = os.path.normpath(os.path.join(self.folder, config))
        if not os.path.isfile(path):
            raise ConfigError(f"benchmark names the config '{config}', and there is no file '{path}'{nearest_path(path)}")
        return path

    def _methods(self, settings: dict, key: str) -> dict[str, Method]:
        methods: dict[str, Method] = {}
        for name, given in settings.items():
            if name in RESERVED:
                raise ConfigError(f"{key}: '{name}' is the name of a folder of every comparison: rename it")
            given = dict(config=given) if isinstance(given, str) else dict(given)
            known = ABLATION_KEYS if 'ablation_of' in given else METHOD_KEYS
            if key == 'benchmark.stages':
                known = STAGE_KEYS
            check_keywords(f"{key}: '{name}'", given, sorted(known), ConfigError)
            if not {'config', 'ablation_of'} & set(given):
                raise ConfigError(f"{key}: '{name}' has {sorted(given)}; it may have {sorted(known)}")
            given['options'] = dict(given.get('options', {}))
            if 'ablation_of' in given:
                self._one_of(given['ablation_of'], methods, f'{key}: ablation_of of {name}')
                other = methods[given['ablation_of']]
                if other.ablation_of:
                    raise ConfigError(f"{key}: '{name}' is an ablation of '{other.name}', itself an ablation of "
                                      f"'{other.ablation_of}': name that one")
                given.update(config=other.config, options={**other.options, **given['options']})
            else:
                given['config'] = self._existing(given['config'])
                given['grid'] = check_grid(given.get('grid', {}), f'{key}: grid of {name}')
                if 'searcher' in given:
                    given['searcher'] = check_searcher(given['searcher'], given['grid'], f"{key}: '{name}'")
            if 'seeds' in given:
                given['seeds'] = tuple(given['seeds'])
            if 'budgets' in given:
                given['budgets'] = _budgets(given['budgets'], f'{key}: budgets of {name}')
            methods[name] = Method(name, **given)
        return methods


def _budgets(given: Sequence[float], key: str) -> tuple[float, ...]:
    if not given or len(set(given)) < len(given) or not all(0 < budget <= 1 for budget in given):
        raise ConfigError(f'{key}={list(given)} must be one or more different shares in (0, 1]')
    return tuple(sorted(given))
