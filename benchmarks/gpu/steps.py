"""Cost of a training step on this device, relative to mmrazor's plain KD, for four pairs and a few kinds of training.

All trainings of a pair take turns in one process (see ``benchmarks/step_cost.py``). Each pair is written when it is done.

    python benchmarks/gpu/steps.py --out work_dirs/gpu [--rehearse]
"""
import argparse
import csv
import os
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import torch  # noqa: E402

import step_cost  # noqa: E402  first: makes the toolbox importable
from machine import describe  # noqa: E402

# Teacher, student, side of the images, batch. The first ones matter most.
PAIRS = (('resnet56', 'resnet20', 32, 128), ('resnet34', 'resnet18', 224, 64), ('resnet32x4', 'resnet8x4', 32, 128),
         ('resnet20', 'resnet8', 16, 128))
TINY = (('resnet8', 'resnet8', 16, 4), ('resnet18', 'resnet18', 72, 2))
KD = 'plain KD (mmrazor)'
POINTWISE = dict(model__distiller__transforms=[dict(type='PointwiseTransform')])
LAST = dict(custom_hooks=[dict(type='mmrazor.ChannelsLastHook')])
BF16 = dict(optim_wrapper__type='mmrazor.BFloat16OptimWrapper')
KINDS = {
    'student alone': ('student', {}),
    KD: ('kd', {}),
    'all pathways, PointwiseTransform': ('equal', POINTWISE),
    'all pathways, ConvAttentionTransform': ('equal', {}),
    f'{KD}, bfloat16': ('kd', BF16),
    'all pathways, PointwiseTransform, bfloat16': ('equal', {**POINTWISE, **BF16}),
    f'{KD}, channels_last': ('kd', LAST),
    'all pathways, PointwiseTransform, channels_last': ('equal', {**POINTWISE, **LAST}),
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', default='work_dirs/gpu')
    parser.add_argument('--rehearse', action='store_true', help='tiny networks, one round of one step')
    args = parser.parse_args()
    pairs, rounds, steps = (TINY, 1, 1) if args.rehearse else (PAIRS, 5, 5)
    if torch.cuda.is_available():
        torch.zeros(1, device='cuda')
    path = os.path.join(args.out, 'steps.csv')
    with open(path, 'w', newline='') as file, tempfile.TemporaryDirectory() as folder:
        writer = csv.DictWriter(file, ['teacher', 'student', 'side', 'batch', 'variant', 'ratio', 'seconds', 'fastest',
                                       'slowest', 'images_a_second', 'peak_mb'], extrasaction='ignore')
        writer.writeheader()
        for teacher, student, side, batch in pairs:
            start = time.perf_counter()
            bench = step_cost.Bench(teacher, student, batch, folder, side)
            variants = {name: bench.variant(kind, **options) for name, (kind, options) in KINDS.items()}
            print(f'{teacher} > {student}: built in {time.perf_counter() - start:.1f} s', flush=True)
            seconds = step_cost.measure(variants, rounds, steps)
            for row in step_cost.rows_of('step', variants, seconds, batch, KD):
                writer.writerow(dict(row, teacher=teacher, student=student, side=side, batch=batch))
            file.flush()
            del variants
    with open(os.path.join(args.out, 'machine.md'), 'w') as file:
        file.write(describe() + '\n')


if __name__ == '__main__':
    main()
