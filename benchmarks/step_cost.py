"""Seconds and memory of a training step, for each kind of training and for different numbers of pathways.

Every variant is a real training with the runner, loop, hooks and optimiser of a config, on one made-up batch. All variants
take turns in one process, so that changes of the machine's load affect all of them. The result of a variant is the median
of its turns.

    python benchmarks/step_cost.py                       # writes docs/results/step_cost.{csv,png,md}; about half an hour
    python benchmarks/step_cost.py --teacher resnet20 --student resnet8 --batch 32 --rounds 3 --out /tmp/quick
"""
import argparse
import csv
import functools
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import distpro_mm  # noqa: F401  first: makes the others importable

# isort: split
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.autograd.profiler import profile

from distpro.process import DistillationProcess
from distpro.weighting import Weighting
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_trainer
from machine import ROOT, describe
from made_up import MadeUpImages  # noqa: F401  registers it
from step_cost_page import draw, page

PAIR = 'resnet56_resnet20_cifar100'
TRANSFORM = 'ConvAttentionTransform'
LAYERS = ('stem', 'layer1', 'layer2', 'layer3')


class Variant(NamedTuple):
    """A kind of training. ``step`` takes the next step. Alpha is updated in one of ``every`` steps."""
    step: Callable[[], None]
    every: int = 1


def ready(runner: Runner, every: int = 1) -> Variant:
    """The training of a runner, ready to step on its first batch."""
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    loop = runner.train_loop
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.optim_wrapper.initialize_count_status(runner.model, 0, loop.max_iters)
    batch = next(iter(loop.dataloader))
    runner.model.train()
    runner.call_hook('before_train')
    runner.call_hook('before_train_epoch')
    return Variant(lambda: loop.run_iter(0, batch), every)


class Bench:
    """Builds the variants for one pair of networks."""

    def __init__(self, teacher: str, student: str, batch: int, folder: str, side: int = 32) -> None:
        """Networks by their names in ``configs/_base_/networks``, and the images' side in pixels."""
        self.shape, data = (3, side, side), 'imagenet' if side > 64 else 'cifar'
        self.classes = 1000 if side > 64 else 100
        networks = Config.fromfile(str(ROOT / f'configs/_base_/networks/{data}_networks.py'))
        self.teacher, self.student, self.batch, self.folder = networks[teacher], networks[student], batch, folder
        self.count = itertools.count()

    def config(self, kind: str, pathways: int = 10, **options) -> Config:
        """A shipped CIFAR-100 config with this pair, made-up images and no validation."""
        name = f'distpro/published_{kind}' if kind in ('search', 'distill') else f'baselines/{kind}'
        cfg = load_config(str(ROOT / 'configs' / f'{name}.py'), pair=PAIR)
        if kind == 'student':
            cfg.model = self.student
        else:
            cfg.model.update(architecture=self.student, teacher=self.teacher, teacher_ckpt=None)
        if 'input_shape' in cfg.model:
            cfg.model.input_shape = self.shape
        if 'distiller' in cfg.model and cfg.model.type == 'DistPro':
            cfg.model.distiller.update(grid(pathways))
        cfg.train_dataloader.batch_size = self.batch
        count = max(10 * self.batch, 1000) if self.shape[1] <= 64 else 2 * self.batch
        cfg.train_dataloader.dataset.dataset = dict(type='MadeUpImages', shape=self.shape, classes=self.classes, count=count,
                                                    pipeline=[dict(type='PackInputs')])
        cfg.data_preprocessor.num_classes = self.classes
        for key in ('val_dataloader', 'val_cfg', 'val_evaluator', 'test_dataloader', 'test_cfg', 'test_evaluator'):
            cfg[key] = None
        cfg.pop('param_scheduler')
        cfg.train_cfg.pop('val_interval', None)
        number = next(self.count)
        cfg.update(work_dir=os.path.join(self.folder, str(number)), log_level='ERROR', experiment_name=f'{kind}_{number}',
                   default_hooks=dict(checkpoint=None, logger=None, param_scheduler=None))
        cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
        return cfg

    def variant(self, kind: str, every: int = 1, **options) -> Variant:
        """The training of :meth:`config`, ready to step."""
        runner = build_trainer(self.config(kind, **options))
        variant, loop = ready(runner, every), runner.train_loop
        if kind == 'search':
            loop.start()
            loop._held_out = itertools.repeat(next(loop._held_out))
        return variant

    def replay(self, skipped: int, pathways: int = 10) -> Variant:
        """A replay of a process with some pathways below the threshold."""
        cfg = self.config('distill', pathways)
        names = pathway_names(pathways)
        path = os.path.join(self.folder, f'process_{skipped}.json')
        weights = [0.1] * skipped + [0.9] * (len(names) - skipped)
        DistillationProcess(names, Weighting('absolute'), [0, 1], [weights, weights]).save(path)
        return self.variant('distill', pathways=pathways, custom_hooks=[{**cfg.custom_hooks[0], 'process': path}])

    def second_order(self) -> Variant:
        """The naive search: differentiate the held-out loss through the training gradient, then take the step."""
        runner = build_trainer(self.config('search'))
        runner._train_loop = runner.build_train_loop(runner._train_loop)
        loop = runner.train_loop
        wrappers = runner.build_optim_wrapper(runner.optim_wrapper)
        model = runner.model
        batch, held_out = next(iter(loop.dataloader)), next(iter(loop.held_out_dataloader))
        optimizer, alpha = wrappers['student'].optimizer, model.distiller.grid.alpha
        model.train()
        names, parameters = zip(*model.student.named_parameters())
        group = optimizer.param_groups[0]

        def step() -> None:
            data = model.data_preprocessor(batch, True)
            with torch.no_grad(), model.distiller.transmitter_reader(model.teacher) as sent:
                model.teacher(data['inputs'], mode='tensor')
            with model.distiller.receiver_reader(model.student) as received:
                loss = model.student(**data, mode='loss')['loss']
            weights = model.distiller.grid.weighting(alpha)
            loss = loss + (weights * model.distiller.grid.pathway_losses(received.features, sent.features)).sum()
            transforms = list(model.distiller.grid.transforms.parameters())
            gradients = torch.autograd.grad(loss, [*parameters, *transforms], create_graph=True)
            stepped = [p - group['lr'] * (1 + group['momentum']) * g for p, g in zip(parameters, gradients)]
            held = model.data_preprocessor(held_out, False)
            losses = torch.func.functional_call(model.student, dict(zip(names, stepped)), (), {**held, 'mode': 'loss'})
            alpha.grad, = torch.autograd.grad(losses['loss'], alpha)
            for parameter, gradient in zip([*parameters, *transforms], gradients):
                parameter.grad = gradient.detach()
            optimizer.step()
            wrappers['alpha'].optimizer.step()

        return Variant(step)


def grid(pathways: int) -> dict:
    """Options of a distiller with 5 pathways, or with 10 for each transform."""
    if pathways < 10:
        pairs = list(itertools.combinations_with_replacement(LAYERS, 2))[::2]
        return dict(connections=pairs, transforms=[dict(type=TRANSFORM)])
    return dict(transforms=[dict(type=TRANSFORM, name=f't{number}') for number in range(pathways // 10)])


def pathway_names(pathways: int) -> list[str]:
    """Names of the pathways of :func:`grid`."""
    pairs = list(itertools.combinations_with_replacement(LAYERS, 2))
    return [f'{transmitter}>{receiver}:t{number}' for transmitter, receiver in pairs for number in range(pathways // 10)]


def measure(variants: dict[str, Variant], rounds: int, steps: int = 1) -> dict[str, list[float]]:
    """Seconds per step. Each variant takes a turn of several steps in every round, after one warm-up turn."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, variant in variants.items():
            start = time.perf_counter()
            for _ in range(variant.every * steps):
                variant.step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                seconds[name].append((time.perf_counter() - start) / variant.every / steps)
        told = ', '.join(f'{name} {times[-1]:.3g}' for name, times in seconds.items() if times)
        print(f'round {turn} of {rounds}: {told}', flush=True)
    return seconds


def peak_memory(variant: Variant) -> float:
    """Peak memory in megabytes that a step allocates through torch, beyond the memory in use before it."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for _ in range(variant.every):
            variant.step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with profile(profile_memory=True) as record:
        for _ in range(variant.every):
            variant.step()
    events = sorted((event for event in record.kineto_results.events() if event.name() == '[memory]'),
                    key=lambda event: event.start_ns())
    return max(itertools.accumulate(event.nbytes() for event in events)) / 2**20


def rows_of(section: str, variants: dict[str, Variant], seconds: dict[str, list[float]], batch: int,
            reference: str) -> list[dict]:
    """Result rows, one per variant."""
    rows = []
    for name, variant in variants.items():
        ratios = [mine / its for mine, its in zip(seconds[name], seconds[reference])]
        median = statistics.median(seconds[name])
        rows.append(dict(section=section, variant=name, seconds=round(median, 5), fastest=round(min(seconds[name]), 5),
                         slowest=round(max(seconds[name]), 5), ratio=round(statistics.median(ratios), 3),
                         images_a_second=round(batch / median, 1), peak_mb=round(peak_memory(variant), 1)))
    return rows


def loading(batch: int) -> list[dict]:
    """Images per second from the per-image pipeline and from memory, augmented and normalised."""
    count = 100 * batch
    source = dict(type='mmpretrain.MadeUpImages', shape=(3, 32, 32), classes=100, count=count)
    single = dict(source, pipeline=[
        dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4),
        dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'), dict(type='mmpretrain.PackInputs')])
    whole = dict(type='mmpretrain.InMemoryDataset', dataset=dict(source, pipeline=[dict(type='mmpretrain.PackInputs')]),
                 augments=[dict(type='BatchRandomCrop', padding=4), dict(type='BatchRandomFlip')])
    from distpro_mm.models import BatchPreprocessor
    preprocessor = BatchPreprocessor(mean=[129.3, 124.1, 112.4], std=[68.2, 65.4, 70.4], num_classes=100)
    loaders = {
        'image by image, this process': dict(dataset=single, num_workers=0, collate_fn=dict(type='default_collate')),
        'image by image, 2 workers': dict(dataset=single, num_workers=2, persistent_workers=True,
                                          collate_fn=dict(type='default_collate')),
        'in memory, whole batches': dict(dataset=whole, num_workers=0, collate_fn=dict(type='collate_free'))}

    def read(loader) -> None:
        for data in loader:
            preprocessor(data, True)

    build = Runner.build_dataloader
    variants = {name: Variant(functools.partial(read, build(
        dict(batch_size=batch, sampler=dict(type='DefaultSampler', shuffle=True), **options), seed=0)))
        for name, options in loaders.items()}
    seconds = measure(variants, 3)
    return [dict(section='loading', variant=name, seconds=round(statistics.median(times), 3),
                 fastest=round(min(times), 3), slowest=round(max(times), 3),
                 images_a_second=round(count / statistics.median(times))) for name, times in seconds.items()]


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--teacher', default='resnet32x4', help='name in configs/_base_/networks/cifar_networks.py')
    parser.add_argument('--student', default='resnet8x4', help='likewise')
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--out', default=str(ROOT / 'docs/results'), help='folder of the results')
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    where = (f'{describe()}; {args.teacher} teaches {args.student}, 32 x 32 pixels, batch {args.batch}, {TRANSFORM}, '
             f'{args.rounds} rounds.')
    rows = loading(args.batch)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args.teacher, args.student, args.batch, folder)
        steps = {
            'student alone': bench.variant('student'),
            'plain KD': bench.variant('kd'),
            'all pathways equal': bench.variant('equal'),
            'replay, none skipped': bench.replay(0),
            'replay, 6 of 10 skipped': bench.replay(6),
            'search, JVP, K=1': bench.variant('search'),
            'search, JVP, K=4': bench.variant('search', every=4, train_cfg__alpha_interval=4),
            'search, differences, K=1': bench.variant('search', train_cfg__method='differences'),
            'search, differences, K=4': bench.variant('search', every=4, train_cfg__method='differences',
                                                      train_cfg__alpha_interval=4),
            'second order, straightforward': bench.second_order()}
        rows += rows_of('step', steps, measure(steps, args.rounds), args.batch, 'all pathways equal')
        steps = {
            'all pathways equal': steps['all pathways equal'],
            'compared at the smaller map': bench.variant('equal', model__distiller__compare_at='smaller'),
            'channels_last': bench.variant('equal', custom_hooks=[dict(type='mmrazor.ChannelsLastHook')]),
            'compiled transforms': bench.variant('equal', model__distiller__compile_transforms=True)}
        rows += rows_of('switches', steps, measure(steps, args.rounds), args.batch, 'all pathways equal')
        for pathways in (5, 10, 20, 40):
            steps = {
                'all pathways equal': bench.variant('equal', pathways=pathways),
                'search, JVP, K=1': bench.variant('search', pathways=pathways)}
            rows += rows_of(f'growth {pathways}', steps, measure(steps, max(args.rounds // 2, 1)), args.batch,
                            'all pathways equal')
    with open(os.path.join(args.out, 'step_cost.csv'), 'w', newline='') as file:
        writer = csv.DictWriter(file, ['section', 'variant', 'seconds', 'fastest', 'slowest', 'ratio', 'images_a_second',
                                       'peak_mb'])
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, os.path.join(args.out, 'step_cost.png'))
    with open(os.path.join(args.out, 'step_cost.md'), 'w') as file:
        file.write(page(rows, where))
    print(page(rows, where))


if __name__ == '__main__':
    main()
