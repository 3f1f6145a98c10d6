"""The price of a distillation step on this device, as ratios to mmrazor's plain KD: four pairs, several kinds of training.

All trainings of a pair take turns in one process (see ``benchmarks/step_cost.py``). Each pair is written when it is done.

    python benchmarks/step_price.py --out work_dirs/step_price [--rehearse]
"""
import argparse
import csv
import os
import tempfile
import time

import torch

import step_cost  # first: makes the toolbox importable
from distpro_mm.reporting.table import markdown
from machine import describe

# Teacher, student, side of the images, batch on a CPU and on a GPU. The first ones matter most.
PAIRS = (('resnet56', 'resnet20', 32, 128, 128), ('resnet32x4', 'resnet8x4', 32, 64, 128),
         ('resnet20', 'resnet8', 16, 128, 128), ('resnet34', 'resnet18', 224, 8, 64))
TINY = (('resnet8', 'resnet8', 16, 4, 4), ('resnet18', 'resnet18', 72, 2, 2))
KD = "plain KD (mmrazor's)"
POINTWISE = dict(model__distiller__transforms=[dict(type='PointwiseTransform')])
MAPS = dict(model__distiller__from_covariances=False)
SLOW = dict(model__fast_teacher=False)
EXACT = dict(model__fast_teacher='exact')
BF16 = dict(optim_wrapper__type='mmrazor.BFloat16OptimWrapper')
KINDS = {
    'student alone': ('student', {}),
    KD: ('kd', dict(model__type='SingleTeacherDistill', model__distiller__type='ConfigurableDistiller')),
    'KD, fast teacher': ('kd', {}),
    'pathways from maps, plain teacher': ('equal', {**POINTWISE, **SLOW, **MAPS, 'model__distiller__cuda_graph': False}),
    'pathways from covariances, plain teacher': ('equal', {**POINTWISE, **SLOW}),
    'pathways from covariances, teacher folded': ('equal', {**POINTWISE, **EXACT}),
    'pathways from covariances, fast teacher': ('equal', POINTWISE),
    'forty pathways from covariances, fast teacher': (
        'equal', dict(model__distiller__transforms=[dict(type='PointwiseTransform', name=f't{n}') for n in range(4)])),
    'pathways from maps, fast teacher': ('equal', {**POINTWISE, **MAPS}),
    'ConvAttention pathways, fast teacher': ('equal', {}),
}
LOGITS = dict(model__distiller__logits=[dict(type='KLDivergence', tau=4, name='kl')])
SMALL = {**POINTWISE, **LOGITS, 'model__distiller__map_size': 4}
KINDS.update({
    'pathways at a low resolution, fast teacher': ('equal', SMALL),
    'forty pathways at a low resolution, fast teacher': (
        'equal', {**KINDS['forty pathways from covariances, fast teacher'][1], **LOGITS, 'model__distiller__map_size': 4}),
    'as in configs/distpro': ('equal', {**SMALL, 'model__distiller__connections': 'nearest_depth'})})
LOW = {f'{KD}, all in bfloat16': (*KINDS[KD][:1], {**KINDS[KD][1], **BF16}),
       'pathways from covariances, all in bfloat16': ('equal', {**POINTWISE, **BF16})}
COLUMNS = ('teacher', 'student', 'side', 'batch', 'variant', 'ratio', 'seconds', 'fastest', 'slowest', 'images_a_second',
           'peak_mb', 'memory_ratio')


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', default='work_dirs/step_price', help='folder of step_price.csv')
    parser.add_argument('--pairs', nargs='+', choices=[pair[0] for pair in PAIRS], help='by their teachers; default: all')
    parser.add_argument('--rounds', type=int, default=5, help='turns of each training')
    parser.add_argument('--low', action='store_true', help='also with student and pathways in bfloat16')
    parser.add_argument('--rehearse', action='store_true', help='tiny networks, one round')
    args = parser.parse_args()
    torch.set_num_threads(1)
    gpu = torch.cuda.is_available()
    steps = 5 if gpu else 1  # of a turn
    pairs = TINY if args.rehearse else [pair for pair in PAIRS if not args.pairs or pair[0] in args.pairs]
    kinds = {**KINDS, **LOW} if args.low else KINDS
    os.makedirs(args.out, exist_ok=True)
    table = [['teacher, student, px, batch', 'step', 'ratio', 'seconds', 'fastest to slowest', 'memory']]
    with open(os.path.join(args.out, 'step_price.csv'), 'w', newline='') as file, tempfile.TemporaryDirectory() as folder:
        writer = csv.DictWriter(file, COLUMNS, extrasaction='ignore')
        writer.writeheader()
        for teacher, student, side, *batches in pairs:
            batch, start = batches[gpu], time.perf_counter()
            bench = step_cost.Bench(teacher, student, batch, folder, side)
            variants = {name: bench.variant(kind, **options) for name, (kind, options) in kinds.items()}
            print(f'{teacher} > {student}: built in {time.perf_counter() - start:.1f} s', flush=True)
            seconds = step_cost.measure(variants, 1 if args.rehearse else args.rounds, steps)
            rows = step_cost.rows_of('step', variants, seconds, batch, KD)
            memory = next(row['peak_mb'] for row in rows if row['variant'] == KD)
            for row in rows:
                row['memory_ratio'] = round(row['peak_mb'] / memory, 2)
                writer.writerow(dict(row, teacher=teacher, student=student, side=side, batch=batch))
                table.append([f'{teacher}, {student}, {side}, {batch}', row['variant'], f'{row["ratio"]:.2f}',
                              f'{row["seconds"]:.3g}', f'{row["fastest"]:.3g} to {row["slowest"]:.3g}',
                              f'{row["memory_ratio"]:.2f}'])
            file.flush()
            del variants
    print(f'{describe()}\n\n{markdown(table)}')


if __name__ == '__main__':
    main()
