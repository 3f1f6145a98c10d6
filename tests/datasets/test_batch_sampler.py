"""Custom batch samplers that group images: the same batches from any start, and refused samplers."""
import collections
import copy
import itertools
import os
import sys

import pytest
import torch
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import Runner
from torch.utils.data import BatchSampler, Sampler, SequentialSampler

from distpro_mm.datasets import EvenBatchSampler, ReproducibleSampler, reproducible
from distpro_mm.engine.launch import build_trainer
from distpro_mm.engine.loops.reproducible_train_loop import start_at
from distpro_mm.errors import ConfigError

MODULE = sys.modules['distpro_mm.datasets.reproducible']  # the package has a function of this name
DIGITS = dict(type='mmpretrain.SklearnDigits', images_per_class=3, pipeline=[dict(type='mmpretrain.PackInputs')])


@DATA_SAMPLERS.register_module(force=True)
class ByParity(BatchSampler):
    """Yields batches of images with even labels and with odd labels. The remaining images come last."""

    def __init__(self, sampler, batch_size, drop_last=False):
        if not isinstance(sampler, Sampler):
            raise TypeError('sampler should be an instance of ``Sampler``')  # as mmdet's samplers check
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
def test_a_pass_continues_at_any_batch(drop_last):
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
        ended.append({**runner.model.state_dict(), 'alpha': runner.model.distiller.grid.alpha.detach()})
        cfg.experiment_name += '_resumed'
    assert runner.max_iters == 8 and all(torch.equal(value, ended[1][name]) for name, value in ended[0].items())


RANDOM = [dict(type='LoadImageFromFile'), dict(type='RandomCrop', crop_size=32, padding=20), dict(type='PackInputs')]


@DATA_SAMPLERS.register_module(force=True)
class Twice(BatchSampler):
    """Yields every index twice."""

    def __init__(self, sampler, batch_size):
        super().__init__(sampler, batch_size, False)

    def __iter__(self):
        for batch in super().__iter__():
            yield [int(index) for index in batch for _ in range(2)]


@pytest.mark.parametrize('sampling', [
    dict(sampler=dict(type='mmpretrain.RepeatAugSampler', num_repeats=3)),
    dict(sampler=dict(type='DefaultSampler', shuffle=True), batch_sampler=dict(type='Twice')),
], ids=['sampler', 'batch_sampler'])
def test_repeats_of_an_image_in_an_epoch_are_different_views_that_depend_on_nothing_else(folder, sampling):
    def views(epoch, batches=0, workers=0):
        dataset = dict(folder, pipeline=RANDOM, _scope_='mmpretrain')
        loader = Runner.build_dataloader(reproducible(dict(batch_size=6, num_workers=workers, dataset=dataset, **sampling)),
                                         seed=0)
        return [[(sample.img_path, image) for image, sample in zip(batch['inputs'], batch['data_samples'])]
                for batch in start_at(loader, epoch, batches)]

    def same(one, other):
        pairs = zip(itertools.chain(*one), itertools.chain(*other))
        return all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)

    folder = folder(dict(a=9, b=9))
    whole = views(1)
    by_image = collections.defaultdict(list)
    for path, image in itertools.chain(*whole):
        by_image[path].append(image)
    repeats = [(a, b) for seen in by_image.values() for a, b in itertools.combinations(seen, 2)]
    assert len(repeats) > 10 and not any(torch.equal(a, b) for a, b in repeats)
    assert same(views(1), whole) and not same(views(2), whole)
    assert len(views(1, 2)) == len(whole) - 2 and same(views(1, 2), whole[2:]), 'resumed within the epoch'
    assert same(views(1, workers=2), whole)


@pytest.mark.parametrize('rank', [0, 1])
def test_repeats_in_other_processes_are_different_views_too(monkeypatch, rank):
    """The same images in every process, as RepeatAugSampler may give them."""
    def keys(sampler, rank, processes):
        monkeypatch.setattr(MODULE, 'get_dist_info', lambda: (rank, processes))
        sampler = ReproducibleSampler(range(20), dict(type=sampler), seed=0)
        return [index.key for index in sampler]

    repeated = [keys('mmpretrain.RepeatAugSampler', rank, 2) for rank in (0, 1)]
    assert not set(repeated[0]) & set(repeated[1]) and len(set(repeated[rank])) == 20
    assert keys('DefaultSampler', rank, 2) == keys('DefaultSampler', 0, 1)  # each image is in one process


@pytest.mark.parametrize('images, batch_size, sizes', [
    (60, 50, [30, 30]), (33, 32, [16, 17]), (64, 32, [32, 32]), (5, 50, [5]), (3, 2, [3]), (4, 1, [1] * 4), (1, 2, []),
])
def test_even_batches_have_every_image_once_and_none_is_tiny(images, batch_size, sizes):
    sampler = EvenBatchSampler(SequentialSampler(range(images)), batch_size)
    sampler.sampler.dataset = range(images)
    assert [len(batch) for batch in sampler] == sizes and len(sampler) == len(sizes)
    assert not sizes or [index for batch in sampler for index in batch] == list(range(images))


def test_even_batches_are_as_many_in_each_process(monkeypatch):
    monkeypatch.setattr(MODULE, 'get_world_size', lambda: 3)
    for images, batch_size in ((10, 2), (16, 5), (31, 10), (7, 3), (6, 1)):
        seen, counts = [], []
        for rank in range(3):
            sampler = SequentialSampler(list(range(images))[rank::3])
            plain = list(range(images))[rank::3]
            sampler.dataset = range(images)
            batches = list(EvenBatchSampler(sampler, batch_size))
            counts.append(len(batches))
            seen += [plain[index] for batch in batches for index in batch]
            assert min(map(len, batches)) >= min(2, batch_size) and max(map(len, batches)) <= max(batch_size, 4)
        assert len(set(counts)) == 1 and sorted(seen) == list(range(images))


def test_a_sampler_without_an_end_is_refused_where_epochs_are_counted():
    endless = dict(batch_size=4, num_workers=0, dataset=DIGITS, sampler=dict(type='InfiniteSampler', shuffle=True))
    with pytest.raises(ConfigError, match="train_dataloader.sampler.type='InfiniteSampler' never ends, and a search, .* use "
                                          "dict.type='DefaultSampler', shuffle=True. and train_cfg.max_epochs"):
        Runner.build_dataloader(reproducible(endless), seed=0)
