"""Changes of the general process, to find out what part of its schedule helps (docs/results/why_a_course.md).

    python benchmarks/courses.py        # writes work_dirs/courses/*.json, which configs/benchmarks/courses.py replays

The process is made without the pair, mapped to it, and changed for a training of 936 steps: ten epochs on four fifths of
the images of cifar100_small.
"""
import argparse
import pathlib

import numpy as np

from distpro.pathways.names import is_logits
from distpro.process import DistillationProcess, ablation, fit_length, load_process, map_process
from distpro.weighting import Weighting, log_weights
from machine import ROOT

LAYERS = ['stem', 'layer1', 'layer2', 'layer3']
NAMES = [f'{layer}>{layer}:pointwise' for layer in LAYERS] + ['logits>logits:kl']
STEPS = 936


def courses(process: DistillationProcess) -> dict[str, np.ndarray]:
    """Weights [knots, N] by the name of the change."""
    weights, highest = process.weights, process.weights.max(0)
    mean = ablation(process, 'mean', np.linspace(0, 1, STEPS).tolist())[0]
    features = np.array([not is_logits(name) for name in process.names])
    used = features & (highest > 0)
    left = weights[:, used].sum(1, keepdims=True)  # the total of the features at each knot

    def changed(columns: np.ndarray, value: np.ndarray) -> np.ndarray:
        result = weights.copy()
        result[:, columns] = value
        return result

    return dict(
        general=weights,
        features_of_one_weight=changed(used, left / used.sum()),
        features_at_their_mean=changed(features, mean[features]),
        features_highest_first=changed(used, (left > 0) * highest[used]),
        logits_at_their_mean=changed(~features, mean[~features]),
        logits_highest_first=changed(~features, highest[~features]))


def main() -> None:
    """Write the processes."""
    argparse.ArgumentParser(description=__doc__.partition('\n')[0]).parse_args()
    known = load_process(str(ROOT / 'configs/benchmarks/cifar100_frontier_process.json'))
    process = fit_length(map_process(known, NAMES, dict(transmitters=LAYERS, receivers=LAYERS)), STEPS)
    folder = pathlib.Path('work_dirs/courses')
    folder.mkdir(parents=True, exist_ok=True)
    for name, weights in courses(process).items():
        found = DistillationProcess(NAMES, Weighting('exponential', unit='variance'), process.progress, log_weights(weights),
                                    {}, process.layers)
        found.save(str(folder / f'{name}.json'))
        print(name, weights.round(1).tolist())


if __name__ == '__main__':
    main()
