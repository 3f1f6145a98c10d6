"""The trainings of a benchmark: a config each, alike in everything but the method."""
import dataclasses
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.evaluation import Accuracy
from mmpretrain.registry import METRICS

from ..config_types import class_of, is_a
from ..engine.config_file import load_config
from ..engine.hub_models import expand_hub_models
from ..engine.launch import student_config
from ..engine.stage_references import PREFIX, resolve_stage_references, stage_references
from ..errors import ConfigError
from ..models import NamedClassifier
from .benchmark import TEACHER, Benchmark, Method
from .grid import Axis, axes_of, with_lists
from .job_config import evaluate, hold_out, scale_epochs
from .training import Job, artefacts

# The entries of a config that a training depends on; the others are names for the config's own use.
OF_A_TRAINING = set(inspect.signature(Runner).parameters) - {'cfg', 'experiment_name'} | {'compile'}


class JobMaker:
    """Makes the jobs of a benchmark.

    Args:
        benchmark (Benchmark): The benchmark.

    Raises:
        ConfigError: If a config does not count epochs.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark
        self._parsed: dict[tuple[str, str | None], Config] = {}
        self._digests: dict[str, str] = {}
        reference = self.config(benchmark.methods[benchmark.reference])
        self.student = student_config(reference)
        if stage_references(dict(init_cfg=self.student.model.get('init_cfg'))):
            self.student.model.pop('init_cfg')  # the reference starts from a stage's weights, and the others do not
        configs = {TEACHER: self.config(Method(TEACHER, benchmark.teacher)),
                   **{name: self.config(stage) for name, stage in benchmark.stages.items()}}
        self._usual_folders = {name: cfg.work_dir for name, cfg in configs.items()}
        self._references = {reference: name for name, cfg in configs.items() for reference in _published(name, cfg)}
        self.teacher = self._job(TEACHER, configs[TEACHER], min(benchmark.seeds), TEACHER)
        if benchmark.teacher_ckpt is not None:
            key = _digest([self.teacher.key, self._content(benchmark.teacher_ckpt)])
            self.teacher = dataclasses.replace(self.teacher, key=key, checkpoint=benchmark.teacher_ckpt)

    def initial_student(self, seed: int) -> str:
        """str: Path of the initial weights of a seed's students; a different network has a different file."""
        network = _digest(self.student.model.to_dict())
        return os.path.join(self.benchmark.work_dir, 'initial', f'seed_{seed}_{network}.pth')

    def run(self, method: Method, seed: int, budget: float = 1, settings: dict | None = None) -> Job:
        """The job of a run that is reported.

        Args:
            method (Method): The method.
            seed (int): One of the benchmark's seeds.
            budget (float): Share of the schedule's epochs, > 0. Defaults to 1.
            settings (dict, optional): Settings that were chosen from its grid. Defaults to None.

        Returns:
            Job: The teacher and the stage that it uses are its ``needs``.

        Raises:
            ConfigError: If its config or that of its stage does not count epochs, refers to what no stage writes, or names
                a file of an earlier training of a stage or the teacher.
        """
        settings = settings or {}
        folder = os.path.join(method.name, f'budget_{budget:g}' if budget != 1 else '', f'seed_{seed}')

        def stage_job(stage: Method) -> Job:
            turn, shared = self.benchmark.seeds.index(seed), _shared(stage, settings)
            own = f'_for_{method.ablation_of or method.name}' if shared else ''
            return self._stage(stage, stage.seeds[turn % len(stage.seeds)] if stage.seeds else seed, shared,
                               stage.name + own)

        return self._method(method, stage_job, settings, seed=seed, folder=folder, budget=budget)

    def trial(self, method: Method, settings: dict, seed: int) -> Job:
        """The job of a trial: a run with settings of the grid, evaluated on a held-out part of the training set.

        Args:
            method (Method): The method.
            settings (dict): The settings by dotted key.
            seed (int): One of the seeds for tuning.

        Returns:
            Job: The teacher and the stage that it uses are its ``needs``.

        Raises:
            ConfigError: As :meth:`run` does.
        """
        # The folder is named by the settings, not by their place in the grid, so that a wider grid keeps its trials.
        folder = os.path.join('tuning', method.name, _digest(settings), f'seed_{seed}')
        budget = self.benchmark.tuning['budget']

        def stage_job(stage: Method) -> Job:
            shared = _shared(stage, settings)
            return self._stage(stage, seed, shared, os.path.join('tuning', stage.name, _digest(shared)), budget=budget,
                               tuning=True)

        return self._method(method, stage_job, settings, seed=seed, folder=folder, budget=budget, tuning=True)

    def axes(self, method: Method) -> list[Axis]:
        """The axes of a method's grid; none if it has no grid.

        Raises:
            ConfigError: If a key of the grid has factors, and the config has no number there.
        """
        return axes_of(method.grid, self.config(method), f'benchmark.methods: grid of {method.name}')

    def _method(self, method: Method, stage_job: Callable[[Method], Job], settings: dict, **job: Any) -> Job:
        cfg = self.config(method, settings)
        self._check_references(f'benchmark.methods.{method.name}', cfg, self._references)
        stages = {self._references[value] for _, value in stage_references(cfg)} - {TEACHER}
        if len(stages) > 1:
            raise ConfigError(f'benchmark.methods.{method.name} refers to {len(stages)} stages, {sorted(stages)}: a method '
                              'may use one')
        needs = (self.teacher, *(stage_job(self.benchmark.stages[name]) for name in stages))
        return self._job(method.name, cfg, needs=needs, settings=settings, **job)

    def _stage(self, stage: Method, seed: int, shared: dict, folder: str, **job: Any) -> Job:
        return self._job(stage.name, self.config(stage, shared), seed, os.path.join(folder, f'seed_{seed}'),
                         (self.teacher, ), **job)

    def _job(self, name: str, cfg: Config, seed: int, folder: str, needs: tuple[Job, ...] = (), budget: float = 1,
             settings: dict | None = None, tuning: bool = False) -> Job:
        key = TEACHER if name == TEACHER else f'{"stages" if name in self.benchmark.stages else "methods"}.{name}'
        files = {reference: os.path.join(needed.work_dir, file) for needed in needs
                 for reference, file in _published(needed.name, needed.config).items()}
        self._check_references(f'benchmark.{key}', cfg, files)
        resolve_stage_references(cfg, files)
        cfg.work_dir = os.path.normpath(os.path.join(self.benchmark.work_dir, folder))
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
        if name != TEACHER:
            self._refuse_earlier_results(f'benchmark.{key}', cfg)
        if budget != 1:
            scale_epochs(cfg, budget)
        _check_metric(cfg)
        evaluate(cfg, 1 if tuning or name in (TEACHER, *self.benchmark.stages) else self.benchmark.evaluations)
        if tuning:
            hold_out(cfg, self.benchmark.tuning['ratio'])
        reads = tuple(sorted({file for file in _files(_of_a_training(cfg)) if self._is_foreign(file)}))
        if name != TEACHER and not _is_pretrained(cfg):
            cfg.custom_hooks = [*cfg.get('custom_hooks', []),
                                dict(type='mmrazor.InitialStudentHook', checkpoint=self.initial_student(seed))]
        contents = [[self._content(file) for file in reads]] if reads else []
        digest = _digest([_of_a_training(cfg), [needed.key for needed in needs], *contents])
        return Job(name, seed, cfg, digest, needs, budget, settings or {}, tuning, reads=reads)

    def config(self, method: Method, settings: dict | None = None) -> Config:
        """The config of a method, a stage or the teacher. A file is read once, as there may be hundreds of jobs."""
        path, pair = method.config, None if method.name == TEACHER else self.benchmark.pair
        if (path, pair) not in self._parsed:
            self._parsed[path, pair] = load_config(path, pair=pair)
        parsed = self._parsed[path, pair]
        cfg = Config(parsed._cfg_dict.to_dict(), filename=parsed.filename)
        if method.name != TEACHER and cfg.model.get('teacher_ckpt') is not None:
            cfg.model.teacher_ckpt = f'{PREFIX}{TEACHER}/checkpoint'  # options may set a different one
        cfg.merge_from_dict(with_lists(cfg, {**method.options, **(settings or {})}))
        expand_hub_models(cfg)
        if 'max_epochs' not in (cfg.get('train_cfg') or {}):
            raise ConfigError(f"'{path}': train_cfg={cfg.get('train_cfg')} has no max_epochs, and a comparison counts "
                              "epochs: use type='mmrazor.ReproducibleTrainLoop' with max_epochs")
        return cfg

    def _content(self, file: str) -> str:
        """Digest of a file."""
        if file not in self._digests:
            with open(file, 'rb') as opened:
                self._digests[file] = hashlib.sha256(opened.read()).hexdigest()
        return self._digests[file]

    def _is_foreign(self, file: str) -> bool:
        """Whether an entry of a config is a checkpoint or process from before the comparison."""
        return file.endswith(('.pth', '.json')) and os.path.isfile(file) and not _inside(file, self.benchmark.work_dir)

    @staticmethod
    def _check_references(name: str, cfg: Config, known: Iterable[str]) -> None:
        for key, value in stage_references(cfg):
            if value not in known:
                raise ConfigError(f"{name}: {key}='{value}' is not the artefact of a stage that it may use; there are "
                                  f'{", ".join(map(repr, known))}')

    def _refuse_earlier_results(self, name: str, cfg: Config) -> None:
        """Refuse a config that names a file that a stage or the teacher writes when it is trained by itself."""
        for file in _files(_of_a_training(cfg)):
            if _inside(file, self.benchmark.work_dir):
                continue
            for other, folder in self._usual_folders.items():
                if _inside(file, folder):
                    references = [reference for reference, owner in self._references.items() if owner == other]
                    raise ConfigError(f"{name}: its config names '{file}', in the work_dir of '{other}' outside of a "
                                      f"comparison: put {' or '.join(map(repr, references))} in its place by options")


def _published(name: str, cfg: Config) -> dict[str, str]:
    """Names of the files that a training publishes, by their reference."""
    return {f'{PREFIX}{name}/{artefact}': file for artefact, file in artefacts(cfg).items()}


def _of_a_training(cfg: Config) -> dict:
    """The entries of a config that a training depends on, which the epochs of its evaluations are not."""
    entries = {entry: value for entry, value in cfg._cfg_dict.to_dict().items() if entry in OF_A_TRAINING}
    return {**entries, 'train_cfg': {**entries['train_cfg'], 'val_interval': entries['train_cfg']['max_epochs']}}


def _check_metric(cfg: Config) -> None:
    """Refuse an evaluation by mmpretrain's other metrics: results are compared by accuracy/top1."""
    found = cfg.get('val_evaluator') or []
    parts = found if isinstance(found, (list, tuple)) else [found]
    kinds = [(class_of(part.get('type'), METRICS), part) for part in parts]
    known = [kind is not None and kind.__module__.startswith('mmpretrain.') for kind, _ in kinds]
    wanted = any(kind is Accuracy and 1 in part.get('topk', (1, )) for kind, part in kinds)
    if kinds and all(known) and not wanted:
        raise ConfigError(f"val_evaluator={found}: a comparison needs the metric accuracy/top1: add dict(type='Accuracy', "
                          'topk=(1, )) to it')


def _digest(settings: Any) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _shared(stage: Method, settings: dict) -> dict:
    """The settings of a method that hold for its stage too."""
    return {option: value for option, value in settings.items() if stage.shares_grid and option.startswith('model.')}


def _is_pretrained(cfg: Config) -> bool:
    """Whether the student starts from weights that its config names."""
    student = cfg.model.get('architecture') or cfg.model
    return bool(cfg.get('load_from')) or _names_weights([cfg.model.get('init_cfg'), student])


def _names_weights(node: Any) -> bool:
    """Whether a part of a network starts from a checkpoint: ``init_cfg``, ``pretrained`` or ``checkpoint``, at any depth."""
    if isinstance(node, (list, tuple)):
        return any(map(_names_weights, node))
    if not isinstance(node, dict):
        return False
    return node.get('type') == 'Pretrained' or bool(node.get('pretrained')) or any(map(_names_weights, node.values())) or (
        is_a(node.get('type'), NamedClassifier) and bool(node.get('checkpoint')))


def _inside(file: str, folder: str) -> bool:
    """Whether a file is in a folder, however the two paths are written."""
    file, folder = os.path.realpath(file), os.path.realpath(folder)
    return file.startswith(os.path.join(folder, ''))


def _files(node: Any) -> Iterator[str]:
    """Names of files in a config."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from _files(value)
    elif isinstance(node, str) and '://' not in node and os.path.splitext(node)[1] and (
            os.sep in node or node.endswith(('.pth', '.json'))):
        yield node
