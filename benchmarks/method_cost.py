"""CPU time of a training step of each baseline, as a multiple of a step of KD.

The models of the shipped configs take turns on one made-up batch, in one process and one thread, with random weights. The
result is the median of the process's CPU time, which depends little on what else the machine does.

    python benchmarks/method_cost.py --pair resnet20_resnet8_cifar100-small --methods kd simkd scalekd atsc ickd pursuhint
"""
import argparse
import functools
import statistics
import time

import distpro_mm  # noqa: F401  first: makes the others importable

# isort: split
import torch
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample
from torch import nn

from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_model
from machine import ROOT, describe

BANK = 50000  # images of a memory bank


def learn_noise(model: nn.Module, classes: int, channels: int) -> None:
    """Let the losses that learn from the training set before the training learn from noise.

    Args:
        model (nn.Module): The model of a baseline.
        classes (int): Number of classes.
        channels (int): Channels of the teacher's classifier.
    """
    labels = torch.arange(BANK) % classes
    for loss in model.modules():
        if hasattr(loss, 'learn_classes'):
            loss.learn_classes(torch.randn(BANK, channels), labels)
        if hasattr(loss, 'learn_samples'):
            loss.learn_samples(torch.randn(BANK, channels), labels, torch.randn(BANK, classes), torch.arange(BANK))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, samples: list) -> None:
    """Take one training step."""
    losses = model(images, samples, mode='loss')
    optimizer.zero_grad()
    model.parse_losses(losses)[0].backward()
    optimizer.step()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pair', default='resnet20_resnet8_cifar100-small')
    parser.add_argument('--methods', nargs='+', default=['kd', 'simkd', 'scalekd', 'atsc', 'ickd', 'pursuhint'])
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--rounds', type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    init_default_scope('mmpretrain')
    steps = {}
    for method in dict.fromkeys(['kd', *args.methods]):
        cfg = load_config(str(ROOT / f'configs/baselines/{method}.py'), pair=args.pair)
        if 'teacher_ckpt' in cfg.model:
            cfg.model.teacher_ckpt = None
        model = build_model(cfg)
        classes = cfg.teacher.head.num_classes
        learn_noise(model, classes, cfg.teacher.head.in_channels)
        samples = [DataSample(metainfo=dict(sample_idx=index)).set_gt_label(index % classes) for index in range(args.batch)]
        optimizer = torch.optim.SGD(model.parameters(), 0.001, momentum=0.9, nesterov=True, weight_decay=5e-4)
        steps[method] = functools.partial(step, model.train(), optimizer, torch.randn(args.batch, *cfg.input_shape), samples)
        steps[method]()
    times: dict[str, list[float]] = {method: [] for method in steps}
    for _ in range(args.rounds):
        for method, take in steps.items():
            started = time.process_time()
            take()
            times[method].append(time.process_time() - started)
    kd = statistics.median(times['kd'])
    print(f'{args.pair}, batches of {args.batch}; {describe()}')
    for method, found in times.items():
        print(f'{method:12s} {1000 * statistics.median(found):8.1f} ms {statistics.median(found) / kd:6.2f} steps of KD')


if __name__ == '__main__':
    main()
