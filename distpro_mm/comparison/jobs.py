"""From a benchmark's methods to trainings: one config each, alike in all that is not the method."""
import copy
import dataclasses
import hashlib
import inspect
import json
import os
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from mmrazor.registry import HOOKS

from ..config_types import is_a
from ..datasets import HeldOutSplit, InMemoryDataset
from ..engine.hooks import DistillWarmUpHook
from ..engine.launch import load_config, student_config
from .benchmark import Benchmark, Method

# The entries of a config that a training depends on; the others are names for the config's own use.
OF_A_TRAINING = set(inspect.signature(Runner).parameters) - {'cfg', 'experiment_name'} | {'compile'}


@dataclasses.dataclass(frozen=True)
class Job:
    """One training.

    Args:
        name (str): The method, or 'teacher', or a stage.
        seed (int): Random seed.
        config (Config): What is trained, in its work_dir.
        key (str): Tells this config, and those of all that it needs, from any other.
        needs (tuple[Job]): What must be done before.
        budget (float): Share of the schedule's epochs. Defaults to 1.
        settings (dict): What the grid chose or tries. Defaults to none.
        tuning (bool): Whether it serves to choose settings. Defaults to False.
        checkpoint (str, optional): Weights that were trained elsewhere: these are evaluated instead. Defaults to None.
    """
    name: str
    seed: int
    config: Config = dataclasses.field(compare=False)
    key: str
    needs: Tuple['Job', ...] = ()
    budget: float = 1
    settings: Dict[str, Any] = dataclasses.field(default_factory=dict, compare=False)
    tuning: bool = False
    checkpoint: Optional[str] = None

    @property
    def work_dir(self) -> str:
        """str: Where it runs."""
        return self.config.work_dir


class JobMaker:
    """Makes the jobs of a benchmark.

    Args:
        benchmark (Benchmark): The benchmark.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark
        reference = benchmark.methods[benchmark.reference]
        self.student = student_config(load_config(reference.config, reference.options, benchmark.pair))
        self.teacher = self._job('teacher', benchmark.teacher, benchmark.seeds[0], 'teacher')
        if benchmark.teacher_ckpt is not None:
            with open(benchmark.teacher_ckpt, 'rb') as file:
                key = _digest([self.teacher.key, hashlib.sha256(file.read()).hexdigest()])
            self.teacher = dataclasses.replace(self.teacher, key=key, checkpoint=benchmark.teacher_ckpt)

    def initial_student(self, seed: int) -> str:
        """str: Path of the weights that every student of a seed starts from; another network has another file."""
        network = _digest(self.student.model.to_dict())
        return os.path.join(self.benchmark.work_dir, 'initial', f'seed_{seed}_{network}.pth')

    def run(self, method: Method, seed: int, budget: float = 1, settings: Optional[dict] = None) -> Job:
        """A run that is reported, with the stage that it needs among its ``needs``."""
        settings = settings or {}
        folder = os.path.join(method.name, f'budget_{budget:g}' if budget != 1 else '', f'seed_{seed}')
        needs: Tuple[Job, ...] = (self.teacher, )
        if method.after:
            stage = self.benchmark.stages[method.after]
            turn = self.benchmark.seeds.index(seed)
            shared = _shared(stage, settings)
            own = f'_for_{method.like or method.name}' if shared else ''
            needs += (self._stage(stage, stage.seeds[turn % len(stage.seeds)] if stage.seeds else seed, shared,
                                  stage.name + own), )
        return self._job(method.name, method.config, seed, folder, {**method.options, **settings}, needs, budget, settings)

    def trial(self, method: Method, settings: dict, seed: int) -> Job:
        """A run that tries settings of the grid on the held-out part of the training set."""
        # Named by what is tried, not by its place in the grid: a grid that is widened keeps what it knows.
        folder = os.path.join('tuning', method.name, _digest(settings), f'seed_{seed}')
        needs: Tuple[Job, ...] = (self.teacher, )
        if method.after:
            stage = self.benchmark.stages[method.after]
            shared = _shared(stage, settings)
            needs += (self._stage(stage, seed, shared, os.path.join('tuning', method.after, _digest(shared)), tuning=True), )
        return self._job(method.name, method.config, seed, folder, {**method.options, **settings}, needs,
                         self.benchmark.tuning['budget'], settings, tuning=True)

    def _stage(self, stage: Method, seed: int, settings: dict, folder: str, tuning: bool = False) -> Job:
        return self._job(stage.name, stage.config, seed, os.path.join(folder, f'seed_{seed}'),
                         {**stage.options, **settings}, (self.teacher, ),
                         self.benchmark.tuning['budget'] if tuning else 1, tuning=tuning)

    def _job(self, name: str, path: str, seed: int, folder: str, options: Optional[dict] = None,
             needs: Tuple[Job, ...] = (), budget: float = 1, settings: Optional[dict] = None, tuning: bool = False) -> Job:
        cfg = load_config(path, options, None if name == 'teacher' else self.benchmark.pair)
        cfg.default_dir, cfg.work_dir = cfg.work_dir, os.path.normpath(os.path.join(self.benchmark.work_dir, folder))
        cfg.randomness = dict(seed=seed)
        for other in needs:
            _redirect(cfg._cfg_dict, other.config)
        if budget != 1:
            shorten(cfg, budget)
        epochs = cfg.train_cfg.val_interval = cfg.train_cfg.max_epochs
        cfg.default_hooks.checkpoint.interval = max(1, epochs // 20)  # a kill costs a twentieth (of some searches, a round)
        if tuning:
            hold_out(cfg, self.benchmark.tuning['ratio'])
        if name != 'teacher' and not _starts_from_a_stage(cfg):
            cfg.custom_hooks = [*cfg.get('custom_hooks', []),
                                dict(type='mmrazor.InitialStudentHook', checkpoint=self.initial_student(seed))]
        trained = {entry: value for entry, value in cfg._cfg_dict.to_dict().items() if entry in OF_A_TRAINING}
        key = _digest([trained, [other.key for other in needs]])
        return Job(name, seed, cfg, key, needs, budget, settings or {}, tuning)


def _digest(settings: Any) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _shared(stage: Method, settings: dict) -> dict:
    """The settings of a method that hold for the stage that serves it too."""
    return {option: value for option, value in settings.items() if stage.shares and option.startswith('model.')}


def _starts_from_a_stage(cfg: Config) -> bool:
    students = (cfg.model, cfg.model.get('architecture') or {})
    return any('Pretrained' in str(student.get('init_cfg', '')) for student in students)


def _redirect(node: Any, other: Config) -> Any:
    """Let a config read what another writes to its folder of the benchmark, in place of its usual one."""
    if isinstance(node, dict):
        for entry, value in node.items():
            if entry not in ('work_dir', 'default_dir'):
                node[entry] = _redirect(value, other)
    elif isinstance(node, (list, tuple)):
        return type(node)(_redirect(value, other) for value in node)
    elif isinstance(node, str) and node.startswith(other.default_dir + os.sep):
        file = os.path.relpath(node, other.default_dir)
        return os.path.join(other.work_dir, re.sub(r'^epoch_\d+\.pth$', f'epoch_{other.train_cfg.max_epochs}.pth', file))
    return node


def shorten(cfg: Config, share: float) -> None:
    """Give a config another number of epochs, and its schedules and warm-ups the same shape over them.

    Args:
        cfg (Config): Changed.
        share (float): Of the epochs, > 0.
    """
    whole = cfg.train_cfg.max_epochs
    cfg.train_cfg.max_epochs = epochs = max(1, round(share * whole))
    schedulers: Sequence = cfg.get('param_scheduler') or []
    if isinstance(schedulers, dict):
        schedulers = [schedulers] if 'type' in schedulers else [s for several in schedulers.values() for s in several]
    hooks = [hook for hook in cfg.get('custom_hooks') or [] if is_a(hook['type'], DistillWarmUpHook, HOOKS)]
    for part in [*(s for s in schedulers if s.get('by_epoch', True)), *hooks]:
        for entry in ('T_max', 'begin', 'end', 'milestones', 'step_size', 'epochs'):
            value = part.get(entry)
            if isinstance(value, (list, tuple)):
                part[entry] = [max(1, round(moment * epochs / whole)) for moment in value]
            elif value:
                part[entry] = max(1, round(value * epochs / whole))


def hold_out(cfg: Config, ratio: float) -> None:
    """Let a config train on a part of its training set and be evaluated on the rest, and never see a test image.

    Args:
        cfg (Config): Changed.
        ratio (float): Share that is held out.
    """
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    in_memory = is_a(train['type'], InMemoryDataset, DATASETS)
    source = train['dataset'] if in_memory else train
    parts: List[dict] = []
    for part in ('train', 'held_out'):
        images = copy.deepcopy(source)
        if part == 'held_out' and not in_memory:
            _innermost(images)['pipeline'] = copy.deepcopy(_innermost(val)['pipeline'])
        # Another seed than a search's own split, which would else hold out the same images again.
        parts.append(dict(type=HeldOutSplit.__name__, dataset=images, part=part, ratio=ratio, seed=1))
    if in_memory:
        train['dataset'] = parts[0]
        parts[1] = dict(type=InMemoryDataset.__name__, dataset=parts[1])
    else:
        cfg.train_dataloader.dataset = parts[0]
    for loader in ('val_dataloader', 'test_dataloader'):
        cfg[loader]['dataset'] = copy.deepcopy(parts[1])


def _innermost(dataset: dict) -> dict:
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset
