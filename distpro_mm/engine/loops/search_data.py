"""The two loaders of a search: of the images that it trains on, and of the held-out ones."""
import copy
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS

from distpro.errors import first_line

from ...config_types import is_a
from ...datasets import EvenBatchSampler, HeldOutSplit, build_unloaded, describe, image_ids
from ...errors import ConfigError

DEFAULT_HELD_OUT = dict(ratio=0.2, seed=0)


def two_parts(dataloader: dict, held_out: dict | None, held_out_dataloader: dict | None, cfg: dict) -> tuple[dict, dict]:
    """The loaders of a search: of the images to train on, and of the held-out ones.

    Args:
        dataloader (dict): ``train_dataloader``.
        held_out (dict, optional): How the training set is split; only without a loader of held-out images.
        held_out_dataloader (dict, optional): A loader of held-out images; None splits the training set.
        cfg (dict): The runner's config.

    Returns:
        tuple[dict, dict]: Both loaders' configs, with their data sets built.

    Raises:
        ConfigError: If they are not understood, or share images with each other or with those that are tested on.
    """
    if held_out is not None and not isinstance(held_out, dict):
        raise ConfigError(f'train_cfg.held_out={held_out!r} must be a dict, such as dict(ratio=0.2)')
    if held_out_dataloader is None:
        train, held_out_loader = split_dataloader(dataloader, {**DEFAULT_HELD_OUT, **(held_out or {})})
        _refuse_test_set('train_cfg.held_out', held_out_loader['dataset'], cfg)
        return train, held_out_loader
    if held_out is not None:
        raise ConfigError('train_cfg has both held_out and held_out_dataloader: give one of them')
    train = _with_built_dataset('train_dataloader', dataloader)
    held_out_loader = all_images(_with_built_dataset('train_cfg.held_out_dataloader', held_out_dataloader))
    _refuse_test_set('train_cfg.held_out_dataloader', held_out_loader['dataset'], cfg, train['dataset'])
    return train, held_out_loader


def split_dataloader(dataloader: dict, held_out: dict) -> tuple[dict, dict]:
    """Split the training set of a loader's config.

    Args:
        dataloader (dict): ``train_dataloader``.
        held_out (dict): Arguments of :class:`HeldOutSplit`.

    Returns:
        tuple[dict, dict]: The loaders of the rest and of the held-out part, with their data sets built; the second as of
        :func:`all_images`.

    Raises:
        ConfigError: If the set is split already or ``held_out`` is not understood.
    """
    known = {'ratio', 'seed', 'stratified'}
    if not isinstance(dataloader, dict):
        raise ConfigError('train_dataloader must be a config, so that its training set can be split')
    if set(held_out) - known:
        raise ConfigError(f'train_cfg.held_out has no {sorted(set(held_out) - known)}; it has {sorted(known)}')
    dataset = dataloader['dataset']
    if is_a(dataset.get('type'), HeldOutSplit, DATASETS) and dataset.get('part') == 'held_out':
        raise ConfigError("train_dataloader.dataset is the held-out part of a HeldOutSplit: give the set to train on, the "
                         'search holds out a part of that by train_cfg.held_out')
    train = HeldOutSplit(DATASETS.build(dataset), 'train', **held_out)
    held_out_loader = dict(copy.deepcopy({**dataloader, 'dataset': None}), dataset=train.held_out())
    return dict(dataloader, dataset=train), all_images(held_out_loader)


def all_images(dataloader: dict) -> dict:
    """A loader that gives every image once in each pass, in batches of nearly equal size, in another order each time.

    So the mean over a pass is of all images, and no batch is so small that batch norm fails on it. Over several processes
    each image goes to one process. A batch sampler of the config is kept, because its images may fit only one another; all
    of its batches are used then, whatever their size.

    Args:
        dataloader (dict): Config of a loader, whose sampler and ``drop_last`` are replaced.

    Returns:
        dict: A copy.
    """
    loader = {key: value for key, value in dataloader.items() if key not in ('drop_last', 'num_batch_per_epoch')}
    loader['sampler'] = dict(type='DefaultSampler', shuffle=True, round_up=False)
    loader['batch_sampler'] = dict(loader.get('batch_sampler') or dict(type=EvenBatchSampler))
    loader['batch_sampler'].pop('drop_last', None)
    loader['persistent_workers'] = loader.get('num_workers', 0) > 0
    return loader


def _with_built_dataset(key: str, dataloader: dict) -> dict:
    """A loader's config with its data set built."""
    if not isinstance(dataloader, dict):
        raise ConfigError(f'{key} must be a config, so that its sampler and its data set can be wrapped, got '
                          f'{type(dataloader).__name__}')
    dataset = dataloader['dataset']
    return dict(dataloader, dataset=DATASETS.build(dataset) if isinstance(dataset, dict) else dataset)


def _refuse_test_set(key: str, held_out: Any, cfg: dict, train: Any = None) -> None:
    """Refuse held-out images that are tested on, validated on or trained on.

    Args:
        key (str): The config key that the held-out images come from.
        held_out (BaseDataset or wrapper): The held-out images.
        cfg (dict): The runner's config.
        train (BaseDataset or wrapper, optional): The training images; None if a split has made them disjoint.
    """
    sets = {} if train is None else dict(train_dataloader=train)
    configs = []
    for name in ('test_dataloader', 'val_dataloader'):
        config = (cfg.get(name) or {}).get('dataset')
        if not isinstance(config, dict) or config in configs:
            continue
        configs.append(config)
        try:
            sets[name] = build_unloaded(config)
        except Exception as error:  # a search does not need it, so it may be on another machine
            print_log(f'{name}: its data set cannot be built, so held-out images are not compared with it '
                      f'({type(error).__name__}: {first_line(error)})', 'current', 30)
    held_out_ids, *other_ids = image_ids(held_out, *sets.values())
    for name, ids in zip(sets, other_ids):
        common = np.isin(held_out_ids, ids)
        if common.any():
            advice = ('leave it out to split the training set' if key.endswith('dataloader') else
                      'take those images out of train_dataloader')
            raise ConfigError(f'{key}: {common.sum()} of the {len(common)} held-out images are in {name} too, the first is '
                              f'{describe(held_out, int(common.argmax()))}; a search needs images that are neither trained '
                              f'on nor tested on: {advice}')
