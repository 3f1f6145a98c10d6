"""Cost of a step with ten linear pathways and the logits, from maps and from covariances, relative to mmrazor's plain KD.

    python benchmarks/linear_pathways.py
"""
import tempfile

import torch

import step_cost  # first: makes the toolbox importable
from distpro_mm.reporting.table import markdown
from machine import describe

PAIRS = (('resnet20', 'resnet8', 16, 128), ('resnet56', 'resnet20', 32, 128), ('resnet32x4', 'resnet8x4', 32, 64))
KD = 'plain KD (mmrazor)'
ROUNDS = 5


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    pointwise = dict(model__distiller__transforms=[dict(type='PointwiseTransform')])
    rows = [['teacher > student, px, batch', 'step', 'ratio', 'seconds', 'from', 'to', 'peak MB']]
    for teacher, student, side, batch in PAIRS:
        with tempfile.TemporaryDirectory() as folder:
            bench = step_cost.Bench(teacher, student, batch, folder, side)
            variants = {'student alone': bench.variant('student'), KD: bench.variant('kd'),
                        'pathways from maps': bench.variant('equal', **pointwise, model__distiller__from_covariances=False),
                        'pathways from covariances': bench.variant('equal', **pointwise)}
            for row in step_cost.rows_of('step', variants, step_cost.measure(variants, ROUNDS), batch, KD):
                rows.append([f'{teacher} > {student}, {side}, {batch}', row['variant'],
                             *(f'{row[key]:.2f}' for key in ('ratio', 'seconds', 'fastest', 'slowest')),
                             f'{row["peak_mb"]:.0f}'])
    print(f'{describe()}\n\n{markdown(rows)}')


if __name__ == '__main__':
    main()
