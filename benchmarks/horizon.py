"""Required horizon of a search: derivatives of the held-out loss with respect to the weights over several horizons.

A student is trained with one constant weight for all pathways. From several iterations, the held-out loss after K further
steps is differentiated with respect to the weights of these K steps. At the end of the run, the final loss is differentiated
with respect to the same weights. For the logits and the deepest features, the derivative is compared with the effect of a
real change of the weight over 100 steps.

    CIFAR100=cifar100_folder python benchmarks/horizon.py --teacher TEACHER.pth   # writes docs/results/horizon.{csv,png,md}
"""
import argparse
import csv
import os

import distpro_mm  # noqa: F401  first: makes the others importable

# isort: split
import numpy as np
import torch
from matplotlib.figure import Figure
from mmrazor.registry import LOOPS

from distpro.random_state import without_side_effects
from distpro.searching.round import copied
from distpro_mm.datasets import seed_all
from distpro_mm.engine import DistProSearchLoop
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_trainer
from distpro_mm.reporting.figures import save_figure
from distpro_mm.reporting.table import markdown
from machine import ROOT, describe

AHEAD = (1, 5, 25, 100)
CHANGE = 0.2  # of a weight's logarithm, up and down


@LOOPS.register_module()
class HorizonLoop(DistProSearchLoop):
    """One round at constant weights, differentiated over several horizons.

    Args:
        marks (Sequence[int]): Iterations at which a horizon begins.
        **kwargs: Of :class:`DistProSearchLoop`.
    """

    def __init__(self, runner, dataloader, max_epochs: int, marks: list[int], **kwargs) -> None:
        super().__init__(runner, dataloader, max_epochs, rounds=2, initial_bump=0, feature_weight=1, max_divisions=0,
                         references=[], round_share=1, min_iterations=1, max_growth=1e9, memory=1e3, **kwargs)
        self.marks = marks
        self.found: dict[tuple[int, int], np.ndarray] = {}  # by mark and K: dJ / d log w [N]
        self.changed: dict[tuple[int, int], float] = {}  # by mark and pathway: the same by a real change

    def step(self, data_batch: dict) -> dict:
        """A training step; K steps after a mark, the derivative."""
        if self._iter == 0:
            self.start_lr = self.training.optimizer.param_groups[0]['lr']
        if self._iter in self.marks:
            before = copied(self.training.state())
            for pathway in (-2, -1):
                self.changed[self._iter, pathway] = self._slope(before, pathway)
            self.training.set_state(copied(before))
        outputs = super().step(data_batch)
        for mark in self.marks:
            if self._iter + 1 - mark in AHEAD:
                self.found[mark, self._iter + 1 - mark] = self._look_back(mark).sum(0).cpu().numpy()
        return outputs

    def _loss(self) -> float:
        seed_all(0)
        return self.trajectory.start(self.held_out_losses())

    def _look_back(self, first: int) -> torch.Tensor:
        """dJ / d log w of all steps so far, from a first one on [K, N]."""
        stored, self.trajectory.steps = self.trajectory.steps, self.trajectory.steps[first:]
        with without_side_effects(self.model):
            self._loss()
            derivatives = self.trajectory.sweep(
                lambda parameters, weights, step: self.training.training_loss(parameters, weights, *step))
        self.trajectory.steps = stored
        return derivatives * self.search.round.weights[0]

    def _slope(self, before: dict, pathway: int) -> float:
        """Finite difference of the loss after 100 steps with respect to the logarithm of a weight."""
        losses, stored = [], list(self.trajectory.steps)
        for change in (CHANGE, -CHANGE):
            self.training.set_state(copied(before))
            weights = self.search.round.weights[0].clone()
            weights[pathway] *= np.exp(change)
            batches = self.training.batches(self._iter)
            with without_side_effects(self.model):
                for iteration in range(self._iter, self._iter + AHEAD[-1]):
                    for group in self.training.optimizer.param_groups:
                        group['lr'] = self.lr(iteration)
                    self.training.take_step(iteration, next(batches), weights)
                losses.append(self._loss())
            batches.close()
        self.trajectory.steps = stored
        return (losses[0] - losses[1]) / (2 * CHANGE)

    def lr(self, iteration: int) -> float:
        """float: The cosine schedule's rate."""
        return self.start_lr * 0.5 * (1 + np.cos(np.pi * iteration / self.iterations))

    def end_epoch(self) -> None:
        """At the end, the derivative of the last loss by all weights."""
        if self._iter == self.iterations:
            self.searcher.tell(self.search.trial, 0.0)  # what the record hook writes
            whole = self._look_back(0)
            for mark in self.marks:
                self.found[mark, 0] = whole[mark:mark + AHEAD[-1]].sum(0).cpu().numpy()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two vectors."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def main() -> None:
    """Train, differentiate, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--teacher', required=True, help="the teacher's checkpoint")
    parser.add_argument('--pair', default='resnet20_resnet8_cifar100-small')
    parser.add_argument('--marks', type=int, nargs='+', default=[50, 300, 700], help='iterations from which to look ahead')
    parser.add_argument('--work-dir', default='work_dirs/horizon')
    parser.add_argument('--out', default=str(ROOT / 'docs/results'), help='folder of the results')
    args = parser.parse_args()
    torch.set_num_threads(1)
    where = describe()
    cfg = load_config(str(ROOT / 'configs/distpro/search.py'), pair=args.pair)
    whole = load_config(str(ROOT / 'configs/distpro/equal.py'), pair=args.pair)
    cfg.update(work_dir=args.work_dir, log_level='ERROR', param_scheduler=whole.param_scheduler)
    cfg.model.teacher_ckpt = args.teacher
    cfg.train_cfg = dict(type='mmrazor.HorizonLoop', max_epochs=whole.train_cfg.max_epochs, marks=args.marks)
    runner = build_trainer(cfg)
    runner.train()
    loop, names = runner.train_loop, runner.model.distiller.grid.names
    horizons = [*AHEAD, 0]
    labels = {**{k: f'{k} step{"s" * (k > 1)}' for k in AHEAD}, 0: 'the end'}
    with open(os.path.join(args.out, 'horizon.csv'), 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['from iteration', 'ahead', *names])
        writer.writerows([mark, labels[k], *(f'{value:.3e}' for value in loop.found[mark, k])]
                         for mark in args.marks for k in horizons)
    draw(loop.found, names, args.marks, os.path.join(args.out, 'horizon.png'))
    rows = [['from iteration', 'the loss after', names[-2], names[-1], 'all others', 'cosine with the end']]
    for mark in args.marks:
        for k in horizons:
            found = loop.found[mark, k] * 1e3
            rows.append([str(mark), labels[k], f'{found[-2]:+.2f}', f'{found[-1]:+.2f}', f'{found[:-2].sum():+.2f}',
                         f'{cosine(found, loop.found[mark, 0]):+.2f}' if k else ''])
    checks = [['from iteration', 'pathway', 'derivative', 'by a real change']] + [
        [str(mark), names[pathway], f'{loop.found[mark, 100][pathway] * 1e3:+.2f}', f'{slope * 1e3:+.2f}']
        for (mark, pathway), slope in loop.changed.items()]
    with open(os.path.join(args.out, 'horizon.md'), 'w') as file:
        file.write('\n\n'.join([
            '# How far ahead a search must look',
            f'Written by {where}; pair {args.pair}, {loop.iterations} iterations, all pathways at the weight '
            f'{loop._weights[0, 0]:g}.',
            'Thousandths by which the held-out loss changes if a weight grows by its e-fold over the K steps before it is '
            'measured (for "the end": over the 100 steps from that iteration on). Negative: more weight is better.',
            markdown(rows), '![The derivative by distance](horizon.png)',
            f'Against a real change, with the logarithm of one weight {CHANGE} higher and lower for 100 steps, all else '
            'alike:', markdown(checks),
            'Where training is chaotic the derivative, which is that of an infinitesimal change, is larger than what a real '
            'one does: the search goes by its sign.']) + '\n')
    print(markdown(rows), markdown(checks), sep='\n\n')


def draw(found: dict[tuple[int, int], np.ndarray], names: list[str], marks: list[int], path: str) -> None:
    """Plot the derivative per step against the horizon, one panel per mark."""
    figure = Figure(figsize=(4 * len(marks) + 2, 3.8), layout='constrained')
    axes = figure.subplots(1, len(marks), squeeze=False)[0]
    places = range(len(AHEAD) + 1)
    for axis, mark in zip(axes, marks):
        for pathway, name in enumerate(names):
            values = [found[mark, k][pathway] / (k or AHEAD[-1]) * 1e3 for k in (*AHEAD, 0)]
            light = pathway < len(names) - 2
            axis.plot(places, values, color='0.75' if light else None, lw=1 if light else 2,
                      label='other features' if pathway == 0 else None if light else name)
        axis.axhline(0, color='k', lw=0.8)
        axis.set(title=f'from iteration {mark}', xticks=list(places), xlabel='steps ahead', yscale='symlog')
        axis.set_xticklabels([*map(str, AHEAD), 'end'])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel('change of the held-out loss a step, thousandths')
    axes[-1].legend(frameon=False, fontsize=8, loc='center left', bbox_to_anchor=(1.01, 0.5))
    save_figure(figure, path)


if __name__ == '__main__':
    main()
