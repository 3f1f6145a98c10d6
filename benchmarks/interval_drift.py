"""Change of the process if alpha is updated only at every K-th iteration, compared with K = 1.

The searches of one pair on real images differ only in K. Each K is run with alpha's default learning rate and with K times
the rate. The difference between two searches with K = 1 and different seeds is the reference.

    CIFAR100=cifar100_folder python benchmarks/interval_drift.py     # writes docs/results/interval_drift.{csv,png,md}
"""
import argparse
import csv
import os
import time

import distpro_mm  # noqa: F401  first: makes the others importable

# isort: split
import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config

from distpro.process import DistillationProcess
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_trainer
from distpro_mm.reporting.figures import save_figure
from distpro_mm.reporting.table import markdown
from machine import ROOT, describe

PAIR = 'resnet20_resnet8_cifar100-16px'
MOMENTS = np.linspace(0, 1, 101)


def on_a_fifth(path: str, epochs: int, work_dir: str, pair: str | None = None) -> Config:
    """A shipped config on a fifth of its training images for some epochs, evaluated at the end."""
    cfg = load_config(str(ROOT / path), pair=pair)
    images = cfg.train_dataloader.dataset
    images.dataset = dict(type='HeldOutSplit', part='held_out', ratio=0.2, dataset=images.dataset)
    cfg.update(work_dir=work_dir, log_level='ERROR', experiment_name=f'{os.path.basename(work_dir)}_{time.time_ns()}')
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    cfg.param_scheduler.T_max = epochs
    cfg.default_hooks.checkpoint.interval = epochs
    return cfg


def train_teacher(epochs: int, folder: str) -> str:
    """Path of the teacher's checkpoint."""
    work_dir = os.path.join(folder, 'teacher')
    checkpoint = os.path.join(work_dir, f'epoch_{epochs}.pth')
    if not os.path.exists(checkpoint):
        build_trainer(on_a_fifth('configs/teachers/resnet20_cifar100-16px.py', epochs, work_dir)).train()
    return checkpoint


def search(teacher: str, name: str, epochs: int, folder: str, interval: int, rate: float, seed: int) -> DistillationProcess:
    """The process of one search."""
    work_dir = os.path.join(folder, name)
    path = os.path.join(work_dir, 'process.json')
    if not os.path.exists(path):
        cfg = on_a_fifth('configs/distpro/published_search.py', epochs, work_dir, PAIR)
        cfg.model.teacher_ckpt = teacher
        cfg.optim_wrapper.alpha = dict(optimizer=dict(type='Adam', lr=rate, betas=(0.5, 0.999)))
        cfg.train_cfg.alpha_interval = interval
        cfg.randomness = dict(seed=seed)
        build_trainer(cfg).train()
    return DistillationProcess.load(path)


def ranks(weights: np.ndarray) -> np.ndarray:
    """Rank of each pathway at each point of training progress."""
    return weights.argsort(axis=1).argsort(axis=1).astype(float)


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation of the rows."""
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    return (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)


def compare(process: DistillationProcess, reference: DistillationProcess) -> dict[str, np.ndarray]:
    """Cosine, rank correlation and distance of shares in [0, 1] of two processes at each point of training progress."""
    mine, its = (np.stack([p.at(moment) for moment in MOMENTS]) for p in (process, reference))
    shares = [weights / weights.sum(1, keepdims=True) for weights in (mine, its)]
    return dict(cosine=(mine * its).sum(1) / (np.linalg.norm(mine, axis=1) * np.linalg.norm(its, axis=1)),
                rank=correlation(ranks(mine), ranks(its)), moved=np.abs(shares[0] - shares[1]).sum(1) / 2)


def main() -> None:
    """Search, compare, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--epochs', type=int, default=10, help='of each search')
    parser.add_argument('--teacher-epochs', type=int, default=20)
    parser.add_argument('--rate', type=float, default=0.1, help="alpha's learning rate")
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--work-dir', default='work_dirs/interval_drift', help='what is done there is not done again')
    parser.add_argument('--out', default=str(ROOT / 'docs/results'), help='folder of the results')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.makedirs(args.out, exist_ok=True)
    where = describe()
    teacher = train_teacher(args.teacher_epochs, args.work_dir)
    print('teacher trained', flush=True)
    runs = {'K=1': (1, args.rate, 0), 'K=1, another seed': (1, args.rate, 1), 'K=1, a third seed': (1, args.rate, 2)}
    for interval in (2, 4, 8):
        runs[f'K={interval}'] = (interval, args.rate, 0)
    for interval in (2, 4, 8):
        runs[f'K={interval}, rate x {interval}'] = (interval, interval * args.rate, 0)
    processes = {}
    for name, (interval, rate, seed) in runs.items():
        folder = name.lower().replace(', ', '_').replace(' ', '-').replace('=', '')
        processes[name] = search(teacher, folder, args.epochs, args.work_dir, interval, rate, seed)
        print(name, processes[name].at(1.0).round(2), flush=True)
    distances = {name: compare(process, processes['K=1']) for name, process in processes.items() if name != 'K=1'}
    with open(os.path.join(args.out, 'interval_drift.csv'), 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['search', 'progress', 'cosine', 'rank correlation', 'share of the weight moved'])
        for name, found in distances.items():
            writer.writerows([name, f'{moment:.2f}', *(f'{found[key][place]:.4f}' for key in ('cosine', 'rank', 'moved'))]
                             for place, moment in enumerate(MOMENTS) if place % 5 == 0)
    draw(distances, os.path.join(args.out, 'interval_drift.png'))
    summary = markdown([
        ['search against K=1', 'cosine, mean', 'at the end', 'rank correlation, mean', 'at the end', 'weight moved, mean'],
        *([name, f"{found['cosine'].mean():.3f}", f"{found['cosine'][-1]:.3f}", f"{found['rank'].mean():.2f}",
           f"{found['rank'][-1]:.2f}", f"{100 * found['moved'].mean():.0f}%"] for name, found in distances.items())])
    with open(os.path.join(args.out, 'interval_drift.md'), 'w') as file:
        file.write('\n\n'.join([
            '# Moving alpha at every K-th iteration',
            f'Written by {where}; resnet20 ({args.teacher_epochs} epochs) teaches resnet8 on 10,000 images '
            f'of CIFAR-100 at 16 x 16 pixels, ten pathways with `PointwiseTransform`, {args.epochs} epochs of '
            f'{8000 // 128} iterations, biased softmax, alpha by Adam at {args.rate}.',
            '"Weight moved" is the share of the total weight that lies on other pathways. Two searches with K = 1 and other '
            'seeds show how much of it is chance.', '![Distance from K = 1 over time](interval_drift.png)',
            summary]) + '\n')
    print(summary)


def draw(distances: dict[str, dict[str, np.ndarray]], path: str) -> None:
    """Cosine and rank correlation over time."""
    figure = Figure(figsize=(12, 4.5), layout='constrained')
    axes = figure.subplots(1, 2)
    colours = {'2': 'tab:blue', '4': 'tab:orange', '8': 'tab:green', '1': '0.5'}
    for name, found in distances.items():
        style = dict(color=colours[name[2]], ls='--' if 'rate' in name or 'third' in name else '-', label=name)
        axes[0].plot(MOMENTS, found['cosine'], **style)
        axes[1].plot(MOMENTS, found['rank'], **style)
    axes[0].set(xlabel='progress of the search', ylabel="cosine with the weights of K=1", xlim=(0, 1), ylim=(None, 1))
    axes[1].set(xlabel='progress of the search', ylabel='rank correlation with K=1', xlim=(0, 1))
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[1].legend(frameon=False, fontsize=8, loc='center left', bbox_to_anchor=(1.01, 0.5))
    save_figure(figure, path)


if __name__ == '__main__':
    main()
