"""What a short trial says about the full training: held-out accuracy and loss, and the gaps by which KD-Zero judges.

For each method of finished comparisons, its best trial is evaluated on the trial's held-out images. The measures are
compared with the accuracy of the full trainings by rank correlation (Spearman) over the methods.

    python benchmarks/trial_proxies.py work_dirs/benchmark_cifar100_small work_dirs/benchmark_forms

The sharpness of a network is the log-sum-exp of its centred logits, and the gap of sharpness the mean absolute difference
between student and teacher. The gap of representation is one minus the linear CKA of the pooled features. KD-Zero's
formulas have not been published, so these are ours.
"""
import argparse
import json
import pathlib

from distpro_mm.comparison.training import RESULT  # first: makes the others importable

# isort: split
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmrazor.registry import MODELS
from torch import Tensor, nn

from distpro_mm.models.clustering import similarities
from distpro_mm.reporting.table import markdown

MEASURES = ('accuracy', 'loss', 'representation', 'sharpness')
REASSEMBLED = ('SimKD', 'ATSC')  # their student has the teacher's classifier, which a trial's checkpoint lacks


def best_trial(folder: pathlib.Path) -> pathlib.Path | None:
    """The finished trial of a method with the highest accuracy whose weights are there."""
    done = [trial for trial in sorted(folder.glob('*/seed_*'))
            if (trial / RESULT).exists() and list(trial.glob('epoch_*.pth'))]
    return max(done, default=None, key=lambda trial: accuracy_of(trial / RESULT))


def accuracy_of(result: pathlib.Path) -> float:
    """The accuracy in a file of a run's result."""
    return json.loads(result.read_text())['accuracy']


def classifier(cfg: dict, weights: dict[str, Tensor]) -> nn.Module:
    """A classifier with its weights, for evaluation."""
    network = MODELS.build(dict(cfg, _scope_='mmpretrain', init_cfg=None))
    network.load_state_dict(weights)
    return network.eval()


def outputs(network: nn.Module, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Pooled features [n, C] and logits [n, K] of normalised images."""
    found: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for part in images.split(500):
            pooled = network.extract_feat(part)
            found.append((pooled[-1].flatten(1), network.head(pooled)))
    features, logits = zip(*found)
    return torch.cat(features).double().numpy(), torch.cat(logits).double().numpy()


def measures_of(trial: pathlib.Path, teacher_ckpt: str) -> list[float] | None:
    """The measures of a trial in the order of :data:`MEASURES`; None for a student that is reassembled."""
    cfg = Config.fromfile(str(next(trial.glob('*.py'))))
    if cfg.model.type in REASSEMBLED:
        return None
    init_default_scope('mmpretrain')
    loader = Runner.build_dataloader(dict(cfg.val_dataloader, persistent_workers=False, num_workers=0))
    preprocess = MODELS.build(dict(cfg.data_preprocessor, type='mmpretrain.ClsDataPreprocessor'))
    batches = [preprocess(batch, training=False) for batch in loader]
    images = torch.cat([batch['inputs'] for batch in batches])
    labels = np.concatenate([[int(sample.gt_label) for sample in batch['data_samples']] for batch in batches])
    state = torch.load(next(trial.glob('epoch_*.pth')), map_location='cpu', weights_only=False)['state_dict']
    own = {name.removeprefix('architecture.'): value for name, value in state.items() if name.startswith('architecture.')}
    known = torch.load(teacher_ckpt, map_location='cpu', weights_only=False)['state_dict']
    (features, logits), (target, teacher_logits) = (outputs(classifier(part, weights), images) for part, weights in (
        (cfg.model.architecture, own), (cfg.model.teacher, known)))
    gap = sharpness(logits) - sharpness(teacher_logits)
    log_p = logits - np.logaddexp.reduce(logits, 1, keepdims=True)
    accuracy = 100 * np.mean(logits.argmax(1) == labels)
    told = accuracy_of(trial / RESULT)
    if abs(accuracy - told) > 0.2:  # rounding of another machine
        raise SystemExit(f'{trial}: its weights have an accuracy of {accuracy:.2f}, and its result is {told:.2f}')
    return [accuracy, -log_p[np.arange(len(labels)), labels].mean(), 1 - similarities([features, target], 'cka')[0, 1],
            np.abs(gap).mean()]


def sharpness(logits: np.ndarray) -> np.ndarray:
    """Log-sum-exp of each row's centred logits [n]."""
    return np.logaddexp.reduce(logits - logits.mean(1, keepdims=True), 1)


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of numbers [n], the mean rank for equal ones."""
    return (values[:, None] > values).sum(1) + ((values[:, None] == values).sum(1) - 1) / 2


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's correlation of numbers [n]."""
    return float(np.corrcoef(ranks(x), ranks(y))[0, 1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('folders', nargs='+', type=pathlib.Path, help='work_dirs of comparisons')
    parser.add_argument('--teacher-ckpt', default='docs/results/cifar100_small/teacher.pth')
    args = parser.parse_args()
    for folder in args.folders:
        if not (folder / 'tuning').is_dir():
            parser.error(f'{folder} has no folder tuning: give the work_dir of a comparison that tunes settings')
    rows: dict[str, list[float]] = {}
    for folder in args.folders:
        for method in sorted((folder / 'tuning').iterdir()):
            finals = [accuracy_of(path) for path in (folder / method.name).glob(f'seed_*/{RESULT}')]
            trial = best_trial(method)
            found = measures_of(trial, args.teacher_ckpt) if finals and trial else None
            if found:
                rows[method.name] = [*found, float(np.mean(finals))]
    table = np.array(list(rows.values()))
    signs = [1, -1, -1, -1]  # a low loss and small gaps are good
    correlations = [sign * rank_correlation(column, table[:, -1]) for sign, column in zip(signs, table.T)]
    order = np.argsort(-table[:, -1])
    names = list(rows)
    print(markdown([['method', *MEASURES, 'full training']]
                   + [[names[i], *(f'{value:.2f}' for value in table[i])] for i in order]
                   + [['rank correlation', *(f'{value:.2f}' for value in correlations), '']]))


if __name__ == '__main__':
    main()
