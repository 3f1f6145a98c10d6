"""How far single processes hold: the process of each setting in each other setting.

``python benchmarks/settings/matrix.py`` trains all unfinished runs and prints a table; ``--png`` draws it, ``--csv`` lists
the runs. It needs the finished teachers and plain KD of ``benchmarks/settings/run.py``. By default these are the settings
for choosing, measured on images of neither the training nor the test set.
"""
import argparse
import csv
import json
import os

import run  # first: makes the toolbox importable

# isort: split
import torch
from matplotlib import pyplot

import machine
import settings as known
from distpro.process import library
from distpro_mm.errors import TrainingError
from distpro_mm.reporting.table import markdown


def accuracy(bench: run.Bench, process: str, seed: int) -> float | None:
    """Accuracy in % of a student that is trained with a process of the library; None if the training failed."""
    path = os.path.join(bench.folder, 'matrix', f'{process.replace("/", "_")}_{seed}.json')
    cfg = bench.config('general', seed)
    cfg.custom_hooks = [dict(type='mmrazor.ProcessReplayHook', process=process)]
    cfg.work_dir = os.path.splitext(path)[0]
    if not os.path.exists(path):
        try:
            found = run.train(cfg)
        except TrainingError as error:
            print(f'{bench.name} {process} {seed}: {error}')
            found = None
        with open(path, 'w') as file:
            json.dump(found, file)
        print(f'{bench.name} {process} {seed}: {found}', flush=True)
    with open(path) as file:
        return json.load(file)


def mean(values: list[float]) -> float:
    """Their mean."""
    return sum(values) / len(values)


def draw(rows: list[str], columns: list[str], gains: list[list[float | None]], path: str) -> None:
    """The gains over plain KD as a coloured matrix with numbers."""
    figure, axes = pyplot.subplots(figsize=(1.6 + 1.15 * len(columns), 1.4 + 0.42 * len(rows)), layout='constrained')
    limit = 5
    axes.imshow([[min(max(gain, -limit), limit) if gain is not None else float('nan') for gain in row] for row in gains],
                cmap='RdBu', vmin=-limit, vmax=limit, aspect='auto')
    for y, row in enumerate(gains):
        for x, gain in enumerate(row):
            if gain is not None:
                colour = 'white' if abs(gain) > 0.7 * limit else 'black'
                axes.text(x, y, f'{gain:+.1f}', ha='center', va='center', color=colour)
    axes.set_xticks(range(len(columns)), columns, rotation=20, ha='right')
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel='student trained in', ylabel='process of', title='Points above plain KD')
    figure.savefig(path, dpi=110)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--settings', nargs='+', choices=sorted(known.SETTINGS),
                        default=[name for name, setting in known.SETTINGS.items() if setting.for_choosing])
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--work-dir', default='work_dirs/settings')
    parser.add_argument('--png', help='draw the matrix to this file')
    parser.add_argument('--csv', help='write the accuracy of every run to this file')
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = list(library())
    benches = [run.Bench(name, args.work_dir, tuple(args.seeds)) for name in args.settings]
    gains: list[list[float | None]] = [[] for _ in names]
    kd, runs = [], []
    for bench in benches:
        os.makedirs(os.path.join(bench.folder, 'matrix'), exist_ok=True)
        teacher = bench.needs('kd', bench.needed())
        if teacher is None:
            parser.error(f'--settings {bench.name}: its teacher is not trained; run benchmarks/settings/run.py first')
        plain = [result['accuracy'] for seed in args.seeds if (result := bench.done('kd', seed, teacher)) is not None]
        kd.append(mean(plain))
        for row, name in zip(gains, names):
            values = [accuracy(bench, name, seed) for seed in args.seeds]
            runs += [(bench.name, name, seed, 'failed' if value is None else f'{value:.2f}')
                     for seed, value in zip(args.seeds, values)]
            row.append(None if None in values else mean(values) - kd[-1])
    table = [['process of', *(bench.name for bench in benches)], ['plain KD (%)', *(f'{value:.1f}' for value in kd)]]
    for name, row in zip(names, gains):
        own = [' (own)' * (bench.setting.library == name) for bench in benches]
        table.append([name, *('failed' if gain is None else f'{gain:+.1f}{mark}' for gain, mark in zip(row, own))])
    print(f'{machine.describe()}\n\n{markdown(table)}')
    if args.csv:
        with open(args.csv, 'w', newline='') as file:
            csv.writer(file, lineterminator='\n').writerows([('setting', 'process', 'seed', 'accuracy'), *runs])
    if args.png:
        draw(names, [bench.name for bench in benches], gains, args.png)


if __name__ == '__main__':
    main()
