"""Batch samplers of one's own, which group images as they like: the same batches from any place, and refused samplers."""
import copy
import os

import pytest
import torch
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import Runner
from torch.utils.data import BatchSampler, Sampler

from distpro_mm.datasets import reproducible
from distpro_mm.engine.launch import build_trainer
from distpro_mm.engine.loops.reproducible_train_loop import start_at
from distpro_mm.errors import ConfigError

DIGITS = dict(type='mmpretrain.SklearnDigits', images_per_class=3, pipeline=[dict(type='mmpretrain.PackInputs')])


@DATA_SAMPLERS.register_module(force=True)
class ByParity(BatchSampler):
    """Gives batches of images with even labels and of images with odd ones, and what is left over at the end."""

    def __init__(self, sampler, batch_size, drop_last=False):
        if not isinstance(sampler, Sampler):
            raise TypeError('sampler should be an instance of ``Sampler``')  # as mmdet's ask
        super().__init__(sampler, batch_size, drop_last)

    def __iter__(self):
        groups = [], []
        for index in self.sampler:
            group = groups[self.sampler.dataset.get_data_info(index)['gt_label'] % 2]
            group.append(index)
            if len(group) == self.batch_size:
                yield group[:]
                group.clear()
        left = groups[0] + groups[1]
        for start in range(0, len(left), self.batch_size):
            yield left[start:start + self.batch_size]


def labels(loader, epoch, batches=0):
    return [[sample.gt_label.item() for sample in batch['data_samples']] for batch in start_at(loader, epoch, batches)]


def loader(**options):
    return Runner.build_dataloader(reproducible(dict(
        batch_size=4, num_workers=0, dataset=DIGITS, sampler=dict(type='DefaultSampler', shuffle=True),
        batch_sampler=dict(type='ByParity', **options))), seed=0)


@pytest.mark.parametrize('drop_last', [False, True])
def test_a_pass_goes_on_at_any_batch(drop_last):
    whole = labels(loader(drop_last=drop_last), 1)
    assert len(whole) == len(loader(drop_last=drop_last)) == (7 if drop_last else 8)
    assert {len(batch) for batch in whole[:-1]} == {4} and len(whole[-1]) == (4 if drop_last else 2)
    assert all(len({label % 2 for label in batch}) == 1 for batch in whole[:6]), 'the grouping is kept'
    assert whole != labels(loader(drop_last=drop_last), 2)
    for done in range(len(whole) + 1):
        assert labels(loader(drop_last=drop_last), 1, done) == whole[done:]


def test_a_search_with_one_is_resumed_within_an_epoch_bit_for_bit(make_config):
    cfg = make_config('search')
    cfg.train_dataloader.batch_sampler = dict(type='ByParity', drop_last=cfg.train_dataloader.pop('drop_last'))
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=3, max_keep_ckpts=-1)
    ended = []
    for resume in (None, os.path.join(cfg.work_dir, 'iter_3.pth')):
        runner = build_trainer(copy.deepcopy(cfg), resume=resume)
        runner.train()
        ended.append({**runner.model.state_dict(), 'alpha': runner.model.distiller.alpha.detach()})
        cfg.experiment_name += '_resumed'
    assert runner.max_iters == 8 and all(torch.equal(value, ended[1][name]) for name, value in ended[0].items())


def test_a_sampler_without_an_end_is_refused_where_epochs_are_counted():
    endless = dict(batch_size=4, num_workers=0, dataset=DIGITS, sampler=dict(type='InfiniteSampler', shuffle=True))
    with pytest.raises(ConfigError, match="train_dataloader.sampler.type='InfiniteSampler' never ends, and a search, .* use "
                                          "dict.type='DefaultSampler', shuffle=True. and train_cfg.max_epochs"):
        Runner.build_dataloader(reproducible(endless), seed=0)
