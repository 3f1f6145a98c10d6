"""Changes of a config for a training of a comparison: when it is evaluated, how long it is, and on which images."""
import copy
from collections.abc import Callable
from typing import Any

from mmengine.config import Config
from mmpretrain.registry import DATASETS

from ..config_types import is_a
from ..datasets import HeldOutSplit, InMemoryDataset, as_evaluated, pipeline_of
from ..engine.schedules import scaled, scaled_schedules

# Entries of hooks that count epochs or iterations.
HOOK_LENGTHS = ('epochs', 'warm_up_epochs', 'warmup_epochs', 'begin_epoch', 'begin_iter', 'action_epoch', 'action_iter',
                'stop_epoch')


def evaluate(cfg: Config, times: int = 1) -> None:
    """Evaluate at even distances and after the last epoch, and write a checkpoint after every twentieth of the training.

    Args:
        cfg (Config): Changed.
        times (int): Number of evaluations, >= 1; one more if it does not divide the epochs. Defaults to 1: after the last
            epoch alone.
    """
    epochs = cfg.train_cfg.max_epochs
    cfg.train_cfg.val_interval = max(1, epochs // times)
    for entry in ('val_begin', 'dynamic_intervals'):
        cfg.train_cfg.pop(entry, None)
    hooks = cfg.get('default_hooks') or {}
    checkpoint = dict(hooks.get('checkpoint') or dict(type='mmrazor.AtomicCheckpointHook', max_keep_ckpts=1))
    for entry in ('filename_tmpl', 'out_dir'):  # others read work_dir/epoch_<number>.pth
        checkpoint.pop(entry, None)
    checkpoint['interval'] = max(1, epochs // 20)
    if 'by_epoch' in checkpoint:
        checkpoint['by_epoch'] = True
    cfg.default_hooks = dict(hooks, checkpoint=checkpoint)


def scale_epochs(cfg: Config, share: float) -> None:
    """Change the number of epochs, and scale schedules and hooks with it.

    Args:
        cfg (Config): Changed.
        share (float): New number of epochs divided by the old one, > 0.
    """
    before = cfg.train_cfg.max_epochs
    cfg.train_cfg.max_epochs = epochs = max(1, round(share * before))
    _scale(cfg, lambda by_epoch: epochs / before)


def hold_out(cfg: Config, ratio: float) -> None:
    """Train on a part of the training set and evaluate on the rest of it, so that no test image is used.

    An epoch then has fewer iterations, and schedules in iterations are scaled with it.

    Args:
        cfg (Config): Changed.
        ratio (float): Share of the training images that is held out, in (0, 1).
    """
    _scale(cfg, lambda by_epoch: 1 if by_epoch else 1 - ratio)
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    in_memory = is_a(train['type'], InMemoryDataset, DATASETS)
    source = train['dataset'] if in_memory else train
    parts: list[dict] = []
    for part in ('train', 'held_out'):
        images = copy.deepcopy(source)
        if part == 'held_out':
            images = as_evaluated(images, pipeline_of(val))
        # A seed other than that of a search's own split, which would hold out the same images again.
        parts.append(dict(type=HeldOutSplit.__name__, dataset=images, part=part, ratio=ratio, seed=1))
    if in_memory:
        train['dataset'] = parts[0]
        parts[1] = dict(type=InMemoryDataset.__name__, dataset=parts[1])
    else:
        cfg.train_dataloader.dataset = parts[0]
    for loader in ('val_dataloader', 'test_dataloader'):
        if cfg.get(loader):
            cfg[loader]['dataset'] = copy.deepcopy(parts[1])


def _scale(cfg: Config, factor: Callable[[bool], float]) -> None:
    """Scale the lengths in schedules and hooks by a factor: of what counts epochs (True) or iterations (False)."""
    least = 0 if cfg.train_cfg.max_epochs == 1 else 1  # a single epoch is not all warm-up

    def scale_hooks(node: Any) -> None:
        for entry, value in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(value, (dict, list)):
                scale_hooks(value)
            elif entry in HOOK_LENGTHS and value:
                node[entry] = scaled(value, factor(not entry.endswith('iter')))

    if cfg.get('param_scheduler'):
        cfg.param_scheduler = scaled_schedules(cfg.param_scheduler, factor, least)
    scale_hooks(cfg.get('custom_hooks') or [])
