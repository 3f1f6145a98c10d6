"""Checks of all configs and pairs without training: which cannot be trained, and why."""
import contextlib
import copy
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, LOOPS, PARAM_SCHEDULERS, init_default_scope

from distpro.checks import FLAG, check_choice
from distpro.errors import ArgumentError, first_line

from .comparison import Benchmark, JobMaker
from .engine.config_file import load_config
from .engine.launch import build_model
from .engine.stage_references import refuse_stage_references
from .errors import ConfigError

METHODS = ('baselines', 'distpro')


class Checked(NamedTuple):
    """A config that was checked.

    Args:
        path (str): The config.
        pair (str, optional): The pair that it was read for.
        problem (str, optional): Why it cannot be trained; None if no reason was found.
    """
    path: str
    pair: str | None
    problem: str | None


def pairs_in(folder: str) -> list[str]:
    """Names of the pairs in a folder of configs, such as ``configs``.

    Raises:
        ConfigError: If it has no ``_base_/pairs``.
    """
    pairs = os.path.join(folder, '_base_', 'pairs')
    if not os.path.isdir(pairs):
        raise ConfigError(f"'{folder}' is not a folder of configs: there is no '{pairs}'; the project's is configs/")
    return _names(pairs)


def check_methods(folder: str, pairs: Sequence[str], build: bool = False) -> Iterator[Checked]:
    """Check every method, search and distillation for each pair: the configs in ``baselines/`` and ``distpro/``.

    Args:
        folder (str): Folder of the configs, such as ``configs``.
        pairs (Sequence[str]): Names of pairs.
        build (bool): Build the models too, and probe their layers, which takes seconds each. Defaults to False.

    Yields:
        Checked: Each config with each pair.

    Raises:
        ConfigError: If the folder has no pairs, or lacks one of ``pairs``.
    """
    check_choice('build', build, FLAG, ConfigError)
    known = pairs_in(folder)
    for pair in pairs:
        if pair not in known:
            raise ConfigError(f"--pair {pair}: there is no such pair in '{folder}'; there are {', '.join(known)}")
    paths = [os.path.join(folder, kind, f'{name}.py') for kind in METHODS for name in _names(os.path.join(folder, kind))]
    with bases_read_once():
        for pair in pairs:
            for path in paths:
                yield Checked(path, pair, _problem(lambda: check(load_config(path, pair=pair), build)))  # noqa: B023


def check_benchmarks(folder: str) -> Iterator[Checked]:
    """Check every benchmark in ``benchmarks/``: the jobs of each method with each budget, and a trial of its grid.

    Args:
        folder (str): Folder of the configs, such as ``configs``.

    Yields:
        Checked: Each benchmark.
    """
    with bases_read_once():
        for name in _names(os.path.join(folder, 'benchmarks')):
            path = os.path.join(folder, 'benchmarks', f'{name}.py')
            yield Checked(path, None, _problem(lambda: _check_benchmark(path)))  # noqa: B023


def check(cfg: Config, build: bool = False) -> None:
    """Check that a config can be trained, without its data.

    Args:
        cfg (Config): The config; changed if the model is built.
        build (bool): Build the model too. Defaults to False.

    Raises:
        ConfigError: If it lacks an entry, has a type that is not registered, a schedule that cannot be built or goes beyond
            the last epoch, or a reference to a stage of a comparison.
        Exception: Other errors of the classes that are built.
    """
    check_choice('build', build, FLAG, ConfigError)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    for key in ('model', 'train_cfg', 'optim_wrapper', 'train_dataloader', 'val_dataloader'):
        if not cfg.get(key):
            raise ConfigError(f'{key}={cfg.get(key)}: a training needs it')
    parts = [('train_cfg', LOOPS, cfg.train_cfg)] if 'type' in cfg.train_cfg else []
    parts += [(f'custom_hooks.{place}', HOOKS, hook) for place, hook in enumerate(cfg.get('custom_hooks') or [])]
    for key, registry, part in parts:
        if isinstance(part['type'], str) and registry.get(part['type']) is None:
            raise ConfigError(f"{key}.type='{part['type']}' is not registered")
    refuse_stage_references(cfg)
    for schedule in _schedules(cfg.get('param_scheduler')):
        _check_schedule(schedule, cfg.train_cfg.get('max_epochs'))
    if build:
        if 'teacher_ckpt' in cfg.model:
            cfg.model.teacher_ckpt = None
        build_model(cfg)


def _check_schedule(schedule: dict, epochs: int | None) -> None:
    if not isinstance(schedule, dict) or 'type' not in schedule:
        raise ConfigError(f'param_scheduler has {schedule}: each schedule needs a type')
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1., momentum=0.9)
    try:
        PARAM_SCHEDULERS.build(copy.deepcopy(schedule), default_args=dict(optimizer=optimizer, epoch_length=1000))
    except Exception as error:
        raise ConfigError(f'param_scheduler={dict(schedule)}: {first_line(error)}') from error
    if epochs is None or not schedule.get('by_epoch', True):
        return
    begin = schedule.get('begin', 0)
    last = max(begin, begin + (schedule.get('T_max') or 0), schedule.get('end', 0))
    if last > epochs:
        raise ConfigError(f'param_scheduler: {schedule["type"]} goes on to epoch {last}, and train_cfg.max_epochs={epochs}')


def _schedules(given) -> list:
    """All schedules of a config, of all optimizers."""
    if not given:
        return []
    if isinstance(given, dict):
        return [given] if 'type' in given else [each for several in given.values() for each in _schedules(several)]
    return list(given)


def _check_benchmark(path: str) -> None:
    benchmark = Benchmark(path)
    maker = JobMaker(benchmark)
    for method in benchmark.methods.values():
        axes = maker.axes(method)
        jobs = [maker.run(method, benchmark.seeds[0], budget) for budget in method.budgets or benchmark.budgets]
        jobs += [maker.trial(method, axis.settings[0], benchmark.tuning['seeds'][0]) for axis in axes]
        needed = [other for job in jobs for other in job.needs]
        for job in {job.work_dir: job for job in [*jobs, *needed]}.values():
            try:
                check(job.config)
            except Exception as error:
                raise ConfigError(f'{job.name} with {job.budget:.0%} of its epochs: {first_line(error)}') from error


def _problem(checked) -> str | None:
    """The message of the error that a check raises, in one line; None if it raises none."""
    try:
        checked()
    except Exception as error:  # a config is code: anything may be wrong with it
        kind = '' if isinstance(error, ArgumentError) else f'{type(error).__name__}: '
        return kind + first_line(error)
    return None


def _names(folder: str) -> list[str]:
    found = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [name[:-3] for name in found if name.endswith('.py')]


@contextlib.contextmanager
def bases_read_once() -> Iterator[None]:
    """Parse each file of a ``_base_`` folder once, which is most of the time of loading many configs.

    A file is parsed again if an environment variable that it or its bases use, such as ``{{$PAIR:...}}``, has changed.
    """
    parse, parsed, variables = Config._file2dict, {}, {}

    def key_of(path: str) -> tuple:
        return (path, *((name, os.environ.get(name)) for name in sorted(variables.get(path, ()))))

    def parse_once(filename, *args, **kwargs):
        path = os.path.abspath(filename)
        if f'{os.sep}_base_{os.sep}' not in path:
            return parse(filename, *args, **kwargs)
        if key_of(path) not in parsed:
            result = parse(filename, *args, **kwargs)
            text = result[1]  # of the file and its bases
            variables.setdefault(path, set()).update(re.findall(r'\{\{[\'"]?\s*\$(\w+)', text))
            parsed[key_of(path)] = result
        return copy.deepcopy(parsed[key_of(path)])

    Config._file2dict = staticmethod(parse_once)
    try:
        yield
    finally:
        Config._file2dict = staticmethod(parse)
