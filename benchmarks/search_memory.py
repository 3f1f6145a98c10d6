"""Memory and seconds of a differentiated round at 224 x 224 pixels, and what follows for longer ones.

A search of the shipped config for a pair on ImageNet is run on made-up images until its first differentiated round is over,
with as little memory for stored steps as makes several parts. It measures the bytes of a stored step and of a state, and
the seconds of a step, of one that is taken again, and of the derivative of one. From these the table is worked out for
rounds of a full training, with batches of 256 images.

    python benchmarks/search_memory.py --batch 8
"""
import argparse
import tempfile
import time

import distpro_mm  # noqa: F401  first: makes the others importable

# isort: split
import torch

from distpro.searching import Footprint, Round, Trajectory
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_trainer
from distpro_mm.reporting.table import markdown
from machine import ROOT, describe
from made_up import MadeUpImages  # noqa: F401  registers it

PAIR = 'resnet34_resnet18_imagenet'
SHAPE, CLASSES, IMAGES = (3, 224, 224), 2, 1_281_167
BATCH, EPOCHS, HELD_OUT, SHARE = 256, 100, 0.2, 0.1  # of the training on ImageNet


def config(batch: int, steps: int, memory: float, folder: str):
    """The shipped search, of rounds of a few steps on made-up images."""
    cfg = load_config(str(ROOT / 'configs/distpro/search.py'), pair=PAIR)
    cfg.model.update(teacher_ckpt=None)
    cfg.train_dataloader.update(batch_size=batch, num_workers=0)
    cfg.train_dataloader.dataset = dict(
        type='MadeUpImages', shape=SHAPE, count=batch * (steps + 1), classes=CLASSES, pipeline=[dict(type='PackInputs')])
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        cfg[key] = None
    cfg.train_cfg.update(max_epochs=1, round_share=1, min_iterations=1, rounds=2, max_divisions=0, references=[],
                         held_out=dict(ratio=1 / (steps + 1)), memory=memory)
    cfg.update(work_dir=folder, log_level='ERROR', experiment_name='memory')
    return cfg


class Stop(Exception):
    """The first differentiated round is over."""


def measured(batch: int, steps: int, memory: float) -> tuple[Footprint, dict[str, float]]:
    """What a round stores, and seconds by what they were spent on, of one step each."""
    spent: dict[str, list[float]] = dict(step=[], again=[], derivative=[])
    derivatives, take, back = Round.derivatives, Round._take, Trajectory._back

    def timed(name, function):
        def call(*args):
            start = time.perf_counter()
            found = function(*args)
            spent[name() if callable(name) else name].append(time.perf_counter() - start)
            return found
        return call

    going_back = []

    def to_the_start(current):
        going_back.append(True)
        derivatives(current)
        raise Stop

    Round.derivatives = to_the_start
    Round._take = timed(lambda: 'again' if going_back else 'step', take)
    Trajectory._back = timed('derivative', back)
    try:
        with tempfile.TemporaryDirectory() as folder:
            runner = build_trainer(config(batch, steps, memory, folder), report=False)
            try:
                runner.train()
            except Stop:
                return runner.train_loop.search.round.footprint, {
                    name: sorted(seconds)[len(seconds) // 2] if seconds else float('nan') for name, seconds in spent.items()}
        raise SystemExit('error: no round was differentiated')
    finally:
        Round.derivatives, Round._take, Trajectory._back = derivatives, take, back


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=int, default=8, help='images of a batch')
    parser.add_argument('--steps', type=int, default=6, help='steps of the round')
    args = parser.parse_args()
    torch.set_num_threads(1)
    probe, _ = measured(args.batch, 2, 4.0)
    memory = 2.5 * probe.step / 2**30  # two steps at a time
    found, seconds = measured(args.batch, args.steps, memory)
    print(f'{PAIR}, {SHAPE[1]} x {SHAPE[2]} pixels, batches of {args.batch}, one thread of {describe()}\n\n{found}\n')
    print('seconds: ' + ', '.join(f'{name} {value:.2f}' for name, value in seconds.items()) + '\n')
    iterations = round(EPOCHS * SHARE) * int(IMAGES * (1 - HELD_OUT) / BATCH)
    images = SHAPE[0] * SHAPE[1] * SHAPE[2]
    step = found.step + (BATCH - args.batch) * images
    rows = []
    enough = Footprint(iterations, step, found.state, 4).enough
    for gigabytes in sorted((1, 4, 8, 16, enough, 64)):
        round_of = Footprint(iterations, step, found.state, gigabytes)
        rows.append([f'{gigabytes:g}', f'{round_of.steps}', f'{round_of.parts}', f'{round_of.states // round_of.state}',
                     f'{round_of.states / 1e9:.0f}', f'{round_of.taken}'])
    print(f'A round of a tenth of {EPOCHS} epochs on ImageNet, batches of {BATCH}: {iterations} steps, each of '
          f'{step / 1e6:.0f} MB\n')
    print(markdown([['memory (GiB)', 'steps at a time', 'parts', 'states', 'in main memory (GB)', 'times a step is taken'],
                    *rows]))


if __name__ == '__main__':
    main()
