"""Draws accuracy against seconds of training from the runs of docs/results/cifar100_frontier.

    python benchmarks/frontier_figure.py            # writes docs/results/cifar100_frontier/accuracy.png
"""
import argparse
import collections
import csv
import pathlib
import statistics

from matplotlib import pyplot

FOLDER = pathlib.Path(__file__).parents[1] / 'docs' / 'results' / 'cifar100_frontier'
LINES = {  # method: label, style
    'general': ("'general', no search", dict(color='C0', marker='o')),
    'pursuhint_warm_up': ('PURSUhInT, with a warm-up', dict(color='C4', marker='D', linestyle='--')),
    'simkd_warm_up': ('SimKD, with a warm-up', dict(color='C1', marker='s', linestyle='--')),
    'kd': ('KD, without a warm-up', dict(color='C2', marker='^', linestyle='--')),
    'student': ('student alone', dict(color='C3', marker='v', linestyle=':'))
}


def means() -> dict[str, list[tuple[float, float, int]]]:
    """Seconds, mean accuracy over seeds and epochs by method, shortest first."""
    accuracies = collections.defaultdict(lambda: collections.defaultdict(list))
    for name in ('results.csv', 'warm_up.csv'):
        with open(FOLDER / name) as file:
            for row in csv.DictReader(file):
                accuracies[row['method']][float(row['seconds']), int(row['epochs'])].append(float(row['accuracy']))
    return {method: [(seconds, statistics.mean(values), epochs) for (seconds, epochs), values in sorted(runs.items())]
            for method, runs in accuracies.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=pathlib.Path, default=FOLDER / 'accuracy.png')
    out = parser.parse_args().out
    if not out.parent.is_dir():
        parser.error(f'--out {out}: there is no folder {out.parent}')
    found = means()
    figure, axes = pyplot.subplots(figsize=(7.2, 4.4), layout='constrained')
    for method, (label, style) in LINES.items():
        axes.plot([run[0] for run in found[method]], [run[1] for run in found[method]], label=label, **style)
    for seconds, accuracy, epochs in found['general']:
        axes.annotate(str(epochs), (seconds, accuracy), xytext=(0, 6), textcoords='offset points', ha='center', fontsize=8)
    axes.set(xscale='log', xlabel="seconds of training on one core (numbers: epochs of 'general')", ylabel='top-1 (%)',
             title='CIFAR-100 at 16 px, resnet20 teaches resnet8')
    ticks = [10, 20, 50, 100, 200, 500, 1000]
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    axes.margins(y=0.1)
    axes.grid(alpha=0.3)
    axes.legend(loc='lower right')
    figure.savefig(out, dpi=100)


if __name__ == '__main__':
    main()
