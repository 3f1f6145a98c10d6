"""Test every backbone of mmpretrain and of this package as teacher and as student.

Each backbone is paired with one fixed partner. A random sample of other pairs is tested too. A test builds and probes a
pair, searches with both loops and distils, for two steps each on made-up images. Losses, weights and alpha must be finite
and must have changed. The exported student must give the same logits in plain mmpretrain.

    python benchmarks/backbone_matrix.py                       # writes docs/backbones.md; about fifteen minutes
    python benchmarks/backbone_matrix.py ResNet SwinTransformer --pairs 0 --out /tmp/some.md
"""
import argparse
import contextlib
import copy
import io
import os
import pathlib
import random
import tempfile
import time
from importlib.metadata import version
from typing import NamedTuple

import distpro_mm  # noqa: F401  first: makes the others importable

# isort: split
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, load_checkpoint
from mmpretrain.registry import MODELS

from backbones import BACKBONES, CLASSES, NOTES, REFUSED
from distpro_mm.engine.config_file import load_config
from distpro_mm.errors import ConfigError
from distpro_mm.export import export_student
from distpro_mm.reporting.table import markdown
from machine import ROOT, describe
from made_up import two_steps

PARTNER = 'CIFARResNet'


class Outcome(NamedTuple):
    """Result of one pair: the layers found in both networks, seconds, and the error, if any.

    ``by_steps_alone`` is the error of the search in rounds if only the one-step search works.
    """
    teacher_layers: str
    student_layers: str
    seconds: float
    error: str | None
    by_steps_alone: str | None


def classifier(name: str, shape) -> dict:
    """Config of a small classifier for images of a shape. The partner takes any shape."""
    cfg = BACKBONES[name].classifier
    if name == PARTNER:
        cfg['backbone'].update(in_channels=shape[0])
    return cfg


def config(kind: str, teacher: str, student: str, shape, folder: str, searched: str = 'search') -> Config:
    """A shipped config of DistPro with other networks, for two steps of two images. ``searched``: the search to replay."""
    cfg = load_config(str(ROOT / f'configs/distpro/{kind}.py'), pair='resnet20_resnet8-half_digits')
    cfg.update(work_dir=os.path.join(folder, kind), experiment_name=f'{kind}_{time.time_ns()}', log_level='ERROR')
    cfg.model.teacher, cfg.model.architecture = classifier(teacher, shape), classifier(student, shape)
    cfg.model.teacher_ckpt, cfg.model.input_shape = None, shape
    cfg.model.distiller = dict(type='DistProDistiller', transforms=[dict(type='PointwiseTransform')])
    if kind != 'published_search':
        cfg.model.distiller.weighting = dict(type='exponential')
    cfg.data_preprocessor = dict(
        type='mmrazor.BatchPreprocessor', num_classes=CLASSES, mean=[128.] * shape[0], std=[64.] * shape[0])
    two_steps(cfg, shape)
    cfg.test_pipeline = [dict(type='PackInputs')]
    cfg.optim_wrapper.optimizer.lr = 1e-3
    cfg.default_hooks.checkpoint = dict(type='mmrazor.AtomicCheckpointHook', interval=1)
    if kind == 'search':
        # One round is differentiated, one is not.
        cfg.train_cfg.update(rounds=2, initial_bump=0, feature_weight=1, max_divisions=0, references=[], round_share=1,
                             min_iterations=1)
    elif kind == 'published_search':
        cfg.optim_wrapper.alpha = dict(optimizer=dict(type='Adam', lr=0.1))
    else:
        cfg.custom_hooks[0].process = os.path.join(folder, searched, 'process.json')
    return cfg


def check_alpha(alpha: torch.Tensor) -> None:
    """Check that the pathways' parameters are finite and differ."""
    assert alpha.isfinite().all() and alpha.std() > 0, f'alpha {alpha}'


def train(cfg: Config) -> Runner:
    """Train two steps, or two rounds of two steps. Check that losses and weights are finite and the student has changed."""
    runner = Runner.from_cfg(cfg)
    before = {}
    call = runner.call_hook

    def note(name, **kwargs):
        call(name, **kwargs)
        if name == 'before_train':
            before.update({key: value.detach().clone() for key, value in runner.model.student.named_parameters()})

    runner.call_hook = note
    runner.train()
    losses = {name: list(buffer.data[0]) for name, buffer in runner.message_hub.log_scalars.items() if 'loss' in name}
    pathways = losses['train/distill.loss_pathways']
    assert runner.iter == 2 * cfg.train_cfg.get('rounds', 1), f'{runner.iter} steps'
    assert all(np.isfinite(values).all() for values in losses.values()), f'losses {losses}'
    assert all(value > 0 for value in pathways), f'pathways {pathways}'
    after = dict(runner.model.student.named_parameters())
    assert all(value.isfinite().all() for value in after.values()), 'weights are not finite'
    assert any(not torch.equal(before[key], value) for key, value in after.items()), 'the student has not moved'
    return runner


def check_export(cfg: Config, runner: Runner, shape, folder: str) -> None:
    """Check that plain mmpretrain computes the trained student's logits from the export."""
    paths = export_student(cfg, os.path.join(cfg.work_dir, 'epoch_1.pth'), os.path.join(folder, 'exported'))
    exported = Config.fromfile(paths['config'])
    init_default_scope('mmpretrain')
    plain = MODELS.build(exported.model)
    load_checkpoint(plain, paths['checkpoint'], map_location='cpu')  # some drop buffers while they load
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        mine, its = (model.cpu().eval()(images, mode='tensor') for model in (runner.model.student, plain))
    for one, other in zip(*([x] if isinstance(x, torch.Tensor) else x for x in (mine, its))):
        torch.testing.assert_close(one, other)


def layers(taps) -> str:
    """The layers that 'auto' found, with their shapes."""
    kinds = dict(map='', channels_last=' (channels last)', tokens=' (tokens)')
    return ', '.join(tap.layer.replace('backbone.', '') + kinds[tap.layout.kind] for tap in dict.fromkeys(taps))


def attempt(teacher: str, student: str) -> Outcome:
    """Search, distil and export one pair; never raises."""
    shape = BACKBONES[student if teacher == PARTNER else teacher].shape
    started, found, error, by_steps_alone = time.time(), ('', ''), None, None
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        try:
            distiller = train(config('published_search', teacher, student, shape, folder)).model.distiller
            found = tuple(layers(distiller.taps(side)) for side in ('transmitter', 'receiver'))
            check_alpha(distiller.grid.alpha)
            searched = 'search'
            try:
                check_alpha(train(config('search', teacher, student, shape, folder)).train_loop.searcher.history[-1].alpha)
            except ConfigError as refused:
                if 'second derivative' not in str(refused):
                    raise
                searched, by_steps_alone = 'published_search', str(refused)
            cfg = config('distill', teacher, student, shape, folder, searched)
            saved = copy.deepcopy(cfg)
            check_export(saved, train(cfg), shape, folder)
        except Exception as caught:
            error = f'{type(caught).__name__}: {" ".join(str(caught).split())}'
    return Outcome(*found, time.time() - started, error, by_steps_alone)


def sample(count: int, names: list[str]) -> list[tuple]:
    """Pairs of different backbones for images of one shape, drawn at random but the same every time."""
    draw = random.Random(0)
    pairs = [(one, other) for one in names for other in names if one != other and PARTNER not in (one, other) and
             BACKBONES[one].shape == BACKBONES[other].shape]
    return draw.sample(pairs, min(count, len(pairs)))


def told(outcome: Outcome) -> str:
    """Table cell that says whether a pair works."""
    if outcome.error is not None:
        return f'no: {outcome.error}'
    if outcome.by_steps_alone is not None:
        return f'by `DistProOneStepSearchLoop` alone: {outcome.by_steps_alone}'
    return 'yes'


def report(alone: dict[str, dict[str, Outcome]], pairs: dict[tuple, Outcome], where: str) -> str:
    """The page."""
    works = [name for name, both in alone.items() if not any(outcome.error for outcome in both.values())]
    alone_by_steps = [name for name in works if any(outcome.by_steps_alone for outcome in alone[name].values())]
    rows = [['backbone', 'teaches', 'is taught', "layers that 'auto' finds"]]
    for name, both in alone.items():
        said = {role: told(outcome) for role, outcome in both.items()}
        found = both['teacher'].teacher_layers or both['student'].student_layers
        rows.append([f'`{name}`', said['teacher'], said['student'], found + (f'; {NOTES[name]}' if name in NOTES else '')])
    tried = len(alone) + len(REFUSED)
    text = [f'''# Backbones

Written by {where}.

A small variant of every backbone of mmpretrain {version("mmpretrain")} and of this package, as teacher and as student of a
`{PARTNER}` of depth 8: probed with `transmitters='auto'` and `receivers='auto'`, searched with `DistProSearchLoop` and
with `DistProOneStepSearchLoop`, distilled for two steps, exported, and read by plain mmpretrain with the same logits.
{len(works)} of {tried} work on both sides, {len(works) - len(alone_by_steps)} of them with both searches. "Tokens" and
"channels last" say what the network holds there; they are read as maps.''', markdown(rows)]
    if pairs:
        rows = [['teacher', 'student', 'works']] + [
            [f'`{teacher}`', f'`{student}`', told(outcome)] for (teacher, student), outcome in pairs.items()]
        text += ['## Pairs drawn at random', markdown(rows)]
    text += ['## What is no classifier of images by itself', 'These do not train in an `ImageClassifier`, with or without '
             'distillation.', markdown([['backbone', 'cause']] + [[f'`{name}`', cause] for name, cause in REFUSED.items()])]
    return '\n\n'.join(text) + '\n'


def main() -> None:
    """Test all pairs and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', default=list(BACKBONES), help='backbones (default: all)')
    parser.add_argument('--pairs', type=int, default=30, help='pairs drawn at random')
    parser.add_argument('--out', type=pathlib.Path, default=ROOT / 'docs/backbones.md')
    args = parser.parse_args()
    Config.pretty_text = property(lambda self: repr(self._cfg_dict))  # formatting takes longer than the steps
    torch.set_num_threads(1)
    where, alone, pairs = describe(), {}, {}
    for name in args.names:
        alone[name] = dict(teacher=attempt(name, PARTNER), student=attempt(PARTNER, name))
        for role, outcome in alone[name].items():
            print(f'{name} as {role}: {told(outcome)} ({outcome.seconds:.1f} s)', flush=True)
    for teacher, student in sample(args.pairs, args.names):
        outcome = pairs[teacher, student] = attempt(teacher, student)
        print(f'{teacher} teaches {student}: {told(outcome)} ({outcome.seconds:.1f} s)', flush=True)
    args.out.write_text(report(alone, pairs, where))


if __name__ == '__main__':
    main()
