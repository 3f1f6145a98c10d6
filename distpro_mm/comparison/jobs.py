"""From a benchmark's methods to trainings: one config each, alike in all that is not the method."""
import copy
import dataclasses
import hashlib
import inspect
import json
import os
import re
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS

from ..config_types import is_a
from ..datasets import HeldOutSplit, InMemoryDataset
from ..engine.launch import load_config, student_config
from ..engine.schedules import scaled, scaled_schedules
from ..errors import ConfigError
from .benchmark import Benchmark, Method

# The entries of a config that a training depends on; the others are names for the config's own use.
OF_A_TRAINING = set(inspect.signature(Runner).parameters) - {'cfg', 'experiment_name'} | {'compile'}
# Entries of hooks that count epochs or iterations.
OF_HOOKS = ('epochs', 'begin_epoch', 'begin_iter', 'action_epoch', 'action_iter', 'stop_epoch')


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
        reads (tuple[str]): Files from outside the comparison that the config names. Defaults to none.
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
    reads: Tuple[str, ...] = ()

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
        self._parsed: Dict[Tuple[str, Optional[str]], Config] = {}
        self._contents: Dict[str, str] = {}
        self._usual_folders = {stage.name: self._load(stage.config, stage.options, benchmark.pair).work_dir
                               for stage in benchmark.stages.values()}
        reference = benchmark.methods[benchmark.reference]
        self.student = student_config(self._load(reference.config, reference.options, benchmark.pair))
        self.teacher = self._job('teacher', benchmark.teacher, benchmark.seeds[0], 'teacher')
        if benchmark.teacher_ckpt is not None:
            key = _digest([self.teacher.key, self._content(benchmark.teacher_ckpt)])
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
        cfg = self._load(path, options, None if name == 'teacher' else self.benchmark.pair)
        if 'max_epochs' not in (cfg.get('train_cfg') or {}):
            raise ConfigError(f"'{path}': train_cfg={cfg.get('train_cfg')} has no max_epochs, in which a comparison counts: "
                              "use type='mmrazor.ReproducibleTrainLoop' with max_epochs")
        cfg.default_dir, cfg.work_dir = cfg.work_dir, os.path.normpath(os.path.join(self.benchmark.work_dir, folder))
        cfg.randomness = dict(seed=seed)
        self._connect(cfg, name, needs)
        if budget != 1:
            shorten(cfg, budget)
        _evaluate_at_the_end(cfg)
        if tuning:
            hold_out(cfg, self.benchmark.tuning['ratio'])
        reads = tuple(sorted({file for file in _files(_of_a_training(cfg)) if self._is_foreign(file)}))
        if name != 'teacher' and not _starts_from_a_stage(cfg):
            cfg.custom_hooks = [*cfg.get('custom_hooks', []),
                                dict(type='mmrazor.InitialStudentHook', checkpoint=self.initial_student(seed))]
        contents = [[self._content(file) for file in reads]] if reads else []
        key = _digest([_of_a_training(cfg), [other.key for other in needs], *contents])
        return Job(name, seed, cfg, key, needs, budget, settings or {}, tuning, reads=reads)

    def _load(self, path: str, options: Optional[dict], pair: Optional[str]) -> Config:
        """As :func:`load_config`, but a file is read once: a comparison may have hundreds of jobs."""
        if (path, pair) not in self._parsed:
            self._parsed[path, pair] = load_config(path, pair=pair)
        parsed = self._parsed[path, pair]
        cfg = Config(parsed._cfg_dict.to_dict(), filename=parsed.filename)
        cfg.merge_from_dict(options or {})
        return cfg

    def _content(self, file: str) -> str:
        """Digest of a file."""
        if file not in self._contents:
            with open(file, 'rb') as opened:
                self._contents[file] = hashlib.sha256(opened.read()).hexdigest()
        return self._contents[file]

    def _is_foreign(self, file: str) -> bool:
        """Whether an entry of a config is a checkpoint or process that was there before the comparison."""
        return file.endswith(('.pth', '.json')) and os.path.isfile(file) and not _inside(file, self.benchmark.work_dir)

    def _connect(self, cfg: Config, name: str, needs: Tuple[Job, ...]) -> None:
        """Let a config read what the jobs that it needs write to their folders of the comparison.

        Raises:
            ConfigError: If it reads nothing of the stage that it needs, or what a stage has left in its usual folder.
        """
        for other in needs:
            folder, written = other.config.default_dir, f'epoch_{other.config.train_cfg.max_epochs}.pth'
            usual = cfg.get('teacher_ckpt')  # the pair's, which may be a URL: here it is the comparison's
            if other.name == 'teacher' and usual is not None and cfg.model.get('teacher_ckpt') == usual:
                cfg.model.teacher_ckpt = os.path.join(other.work_dir, written)
            if not _redirect(cfg, folder, other.work_dir, written) and other.name != 'teacher':
                raise ConfigError(f"benchmark.methods: '{name}' has after='{other.name}', but its config names no file in "
                                  f"'{folder}', where '{other.name}' writes without a comparison: let it read one, such as "
                                  f"'{folder}/process.json' of a search, or leave after out")
        if name == 'teacher' or name in self.benchmark.stages:
            return
        files = [file for file in _files(_of_a_training(cfg)) if not _inside(file, self.benchmark.work_dir)]
        for stage, folder in self._usual_folders.items():
            for file in files:
                if _inside(file, folder):
                    raise ConfigError(f"benchmark.methods: '{name}' reads '{file}', which no training of this comparison "
                                      f"writes: give the method after='{stage}'")


def _of_a_training(cfg: Config) -> dict:
    """The entries of a config that a training depends on."""
    return {entry: value for entry, value in cfg._cfg_dict.to_dict().items() if entry in OF_A_TRAINING}


def _digest(settings: Any) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _shared(stage: Method, settings: dict) -> dict:
    """The settings of a method that hold for the stage that serves it too."""
    return {option: value for option, value in settings.items() if stage.shares and option.startswith('model.')}


def _starts_from_a_stage(cfg: Config) -> bool:
    students = (cfg.model, cfg.model.get('architecture') or {})
    return any('Pretrained' in str(student.get('init_cfg', '')) for student in students)


def _inside(file: str, folder: str) -> bool:
    """Whether a file lies in a folder, however the two are spelt."""
    file, folder = os.path.realpath(file), os.path.realpath(folder)
    return file.startswith(os.path.join(folder, ''))


def _is_path(value: Any) -> bool:
    """Whether an entry of a config is the name of a file on this machine."""
    return (isinstance(value, str) and '://' not in value and bool(os.path.splitext(value)[1])
            and (os.sep in value or value.endswith(('.pth', '.json'))))


def _files(node: Any) -> Iterator[str]:
    """Names of files in a config."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from _files(value)
    elif _is_path(node):
        yield node


def _redirect(cfg: Config, before: str, folder: str, written: str) -> int:
    """Let a config read files in another folder than before.

    Args:
        cfg (Config): Changed.
        before (str): The folder, however the config spells it.
        folder (str): Where they are instead.
        written (str): Name of the checkpoint there, for one of another epoch.

    Returns:
        int: How many names were replaced.
    """
    replaced = 0

    def replace(value: Any) -> Any:
        nonlocal replaced
        if isinstance(value, dict):
            for entry, part in list(value.items()):
                value[entry] = replace(part)
        elif isinstance(value, (list, tuple)):
            return type(value)(replace(part) for part in value)
        elif _is_path(value) and _inside(value, before):
            replaced += 1
            file = os.path.relpath(os.path.realpath(value), os.path.realpath(before))
            return os.path.join(folder, re.sub(r'^epoch_\d+\.pth$', written, file))
        return value

    for entry in cfg.keys() & OF_A_TRAINING - {'work_dir'}:
        cfg[entry] = replace(cfg[entry])
    return replaced


def _evaluate_at_the_end(cfg: Config) -> None:
    """Let a config be evaluated after its last epoch alone, and write a checkpoint now and then."""
    epochs = cfg.train_cfg.val_interval = cfg.train_cfg.max_epochs
    for entry in ('val_begin', 'dynamic_intervals'):
        cfg.train_cfg.pop(entry, None)
    hooks = cfg.get('default_hooks') or {}
    checkpoint = dict(hooks.get('checkpoint') or dict(type='mmrazor.WholeCheckpointHook', max_keep_ckpts=1))
    checkpoint['interval'] = max(1, epochs // 20)  # a kill costs a twentieth (of some searches, a round)
    if 'by_epoch' in checkpoint:
        checkpoint['by_epoch'] = True
    cfg.default_hooks = dict(hooks, checkpoint=checkpoint)


def shorten(cfg: Config, share: float) -> None:
    """Give a config another number of epochs, and its schedules and hooks the same shape over them.

    Args:
        cfg (Config): Changed.
        share (float): Of the epochs, > 0.
    """
    whole = cfg.train_cfg.max_epochs
    cfg.train_cfg.max_epochs = epochs = max(1, round(share * whole))
    _stretch(cfg, lambda by_epoch: epochs / whole)


def hold_out(cfg: Config, ratio: float) -> None:
    """Let a config train on a part of its training set and be evaluated on the rest, and never see a test image.

    An epoch has fewer iterations then, and so have schedules that count them.

    Args:
        cfg (Config): Changed.
        ratio (float): Share that is held out.
    """
    _stretch(cfg, lambda by_epoch: 1 if by_epoch else 1 - ratio)
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    in_memory = is_a(train['type'], InMemoryDataset, DATASETS)
    source = train['dataset'] if in_memory else train
    parts: List[dict] = []
    for part in ('train', 'held_out'):
        images = copy.deepcopy(source)
        if part == 'held_out':
            images = _as_evaluated(images, _pipeline(val))
        # Another seed than a search's own split, which would else hold out the same images again.
        parts.append(dict(type=HeldOutSplit.__name__, dataset=images, part=part, ratio=ratio, seed=1))
    if in_memory:
        train['dataset'] = parts[0]
        parts[1] = dict(type=InMemoryDataset.__name__, dataset=parts[1])
    else:
        cfg.train_dataloader.dataset = parts[0]
    for loader in ('val_dataloader', 'test_dataloader'):
        if cfg.get(loader):
            cfg[loader]['dataset'] = copy.deepcopy(parts[1])


def _pipeline(dataset: dict) -> list:
    """The pipeline that loads an image, of the first data set if there are several."""
    while 'dataset' in dataset or 'datasets' in dataset:
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset.get('pipeline', [])


def _as_evaluated(dataset: dict, pipeline: list) -> dict:
    """A training set whose images are prepared by the pipeline of the evaluation, at any depth of wrapping."""
    if 'dataset' in dataset and 'pipeline' in dataset:  # mixes several images into one
        return _as_evaluated(dataset['dataset'], pipeline)
    dataset.pop('augments', None)
    if 'dataset' in dataset:
        dataset['dataset'] = _as_evaluated(dataset['dataset'], pipeline)
    elif 'datasets' in dataset:
        dataset['datasets'] = [_as_evaluated(part, pipeline) for part in dataset['datasets']]
    else:
        dataset['pipeline'] = copy.deepcopy(pipeline)
    return dataset



def _stretch(cfg: Config, factor: Callable[[bool], float]) -> None:
    """Change the length of schedules and hooks by a factor, for what counts epochs (True) and iterations (False)."""
    least = 0 if cfg.train_cfg.max_epochs == 1 else 1  # a single epoch is not all warm-up

    def hooks(node: Any) -> None:
        for entry, value in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(value, (dict, list)):
                hooks(value)
            elif entry in OF_HOOKS and value:
                node[entry] = scaled(value, factor(not entry.endswith('iter')))

    if cfg.get('param_scheduler'):
        cfg.param_scheduler = scaled_schedules(cfg.param_scheduler, factor, least)
    hooks(cfg.get('custom_hooks') or [])
