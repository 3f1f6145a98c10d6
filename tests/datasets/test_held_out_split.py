"""The two parts of a training set are disjoint, complete and stratified by class."""
import collections
import os
import shutil

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from torch.utils.data import DataLoader

from distpro_mm.datasets import HeldOutSplit, SklearnDigits, image_ids, split
from distpro_mm.errors import ConfigError

DIGITS = dict(type='SklearnDigits', split='train', images_per_class=30)


def ids(dataset):
    return {dataset.get_data_info(index)['digits_index'] for index in range(len(dataset))}


@pytest.mark.parametrize('stratified', [True, False])
@pytest.mark.parametrize('ratio', [0.2, 0.5])
def test_parts_are_disjoint_and_together_the_whole(ratio, stratified):
    parts = [DATASETS.build(dict(type='HeldOutSplit', dataset=DIGITS, part=part, ratio=ratio, stratified=stratified))
             for part in ('train', 'held_out')]
    whole = SklearnDigits(images_per_class=30)
    assert not ids(parts[0]) & ids(parts[1])
    assert ids(parts[0]) | ids(parts[1]) == ids(whole)
    assert len(parts[1]) == round(ratio * len(whole)) and len(parts[0]) + len(parts[1]) == len(whole)
    assert parts[0].metainfo['classes'] == whole.metainfo['classes']


def test_stratified_takes_each_classs_share():
    labels = np.repeat([0, 1, 2], [100, 40, 10])
    np.random.shuffle(labels)
    held_out = split(labels, 0.2, 0, True)['held_out']
    assert collections.Counter(labels[held_out].tolist()) == {0: 20, 1: 8, 2: 2}


def test_seed_decides_the_split_alone():
    labels = np.repeat(np.arange(5), 20)
    np.random.seed(1)
    first = split(labels, 0.2, 3, True)['held_out']
    np.random.seed(2)
    assert (split(labels, 0.2, 3, True)['held_out'] == first).all()
    assert (split(labels, 0.2, 4, True)['held_out'] != first).any()


def test_an_image_and_its_label_stay_together():
    part = HeldOutSplit(dict(DIGITS, pipeline=[dict(type='PackInputs')]), 'held_out')
    whole = SklearnDigits(images_per_class=30)
    by_id = {whole.get_data_info(i)['digits_index']: whole.get_data_info(i) for i in range(len(whole))}
    for index in range(len(part)):
        item, info = part[index], by_id[part.get_data_info(index)['digits_index']]
        assert (item['inputs'].numpy().transpose(1, 2, 0) == info['img']).all()
        assert item['data_samples'].gt_label.item() == info['gt_label'] == part.get_cat_ids(index)[0]


def pack(items):  # at module level, so that the worker can import it
    return [(item['data_samples'].gt_label.item(), item['inputs']) for item in items]


@pytest.mark.long
def test_loads_in_a_spawned_worker():
    dataset = HeldOutSplit(dict(DIGITS, pipeline=[dict(type='PackInputs')]), 'held_out')
    loader = DataLoader(dataset, batch_size=10, num_workers=1, multiprocessing_context='spawn', collate_fn=pack)
    labels = [label for batch in loader for label, _ in batch]
    assert labels == [dataset.get_cat_ids(index)[0] for index in range(len(dataset))]


class WithoutLabels:
    metainfo = {}

    def full_init(self):
        pass

    def __len__(self):
        return 10

    def get_data_info(self, index):
        return dict(index=index)

    def __getitem__(self, index):
        return index


def test_images_without_labels_can_be_split_unstratified():
    parts = [HeldOutSplit(WithoutLabels(), part, ratio=0.3, stratified=False) for part in ('train', 'held_out')]
    assert sorted([*parts[0], *parts[1]]) == list(range(10)) and len(parts[1]) == 3
    with pytest.raises(ConfigError, match='stratified=True needs one label per image'):
        HeldOutSplit(WithoutLabels(), 'train', stratified=True)


class WithSeveral(WithoutLabels):
    """Images with one class or two, as in detection and in multi-label data sets."""

    def get_cat_ids(self, index):
        return [0, 1][:1 + index % 2]


@pytest.mark.parametrize('dataset', [WithoutLabels(), WithSeveral()])
def test_images_without_one_label_each_are_not_stratified_which_is_reported_once(dataset, monkeypatch):
    said = []
    monkeypatch.setattr('distpro_mm.datasets.held_out_split.print_log', lambda message, *args: said.append(message))
    parts = [HeldOutSplit(dataset, part, ratio=0.3) for part in ('train', 'held_out')]
    assert sorted([*parts[0], *parts[1]]) == list(range(10)) and len(parts[1]) == 3
    assert len(said) == 1 and f'{type(dataset).__name__} does not have one label per image' in said[0]
    HeldOutSplit(SklearnDigits(images_per_class=15), 'train')
    HeldOutSplit(dataset, 'train', stratified=False)
    assert len(said) == 1
    with pytest.raises(ConfigError, match=f'stratified=True needs one label per image, which {type(dataset).__name__} does'):
        HeldOutSplit(dataset, 'train', stratified=True)
    with pytest.raises(ConfigError, match='ratio=0.01 holds out none of the 10 images; use a higher ratio or more images'):
        HeldOutSplit(dataset, 'train', ratio=0.01)


@pytest.mark.parametrize('arguments, message', [
    (dict(part='val'), r"part='val' is not one of train, held_out"),
    (dict(part='train', ratio=0), r'held_out\.ratio=0 must be a number above 0 and below 1'),
    (dict(part='train', ratio='a fifth'), r"held_out\.ratio='a fifth' must be a number above 0 and below 1"),
    (dict(part='train', seed='x'), r"held_out\.seed='x' must be a whole number"),
    (dict(part='train', seed=-1), r'held_out\.seed=-1 must be a whole number'),
    (dict(part='train', ratio=1.5), r'held_out\.ratio=1\.5 must be a number above 0 and below 1'),
    (dict(part='train', ratio=0.01), 'ratio=0.01 holds out none of the 150 images of 10 classes, each split by itself'),
])
def test_a_split_that_cannot_work_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        HeldOutSplit(SklearnDigits(images_per_class=15), **arguments)


@pytest.fixture
def logged(monkeypatch):
    messages = []
    monkeypatch.setattr('distpro_mm.datasets.held_out_split.print_log', lambda message, *args: messages.append(message))
    return messages


def repeat(dataset):
    return dict(type='RepeatDataset', times=4, dataset=dataset)


def concat(*datasets):
    return dict(type='ConcatDataset', datasets=list(datasets))


WRAPPERS = {
    'repeat': repeat,
    'balanced': lambda d: dict(type='ClassBalancedDataset', oversample_thr=0.9, dataset=d),
    'concat': lambda d: concat(d, d),
    'overlap': lambda d: concat(dict(d, indices=40), dict(d, indices=list(range(20, 60)))),
    'other_spelling': lambda d: concat(d, dict(d, data_root=f'{d["data_root"]}/../train/', pipeline=[])),
    'fold': lambda d: dict(type='KFoldDataset', fold=1, num_splits=3, seed=0, dataset=d),
    'nested': lambda d: repeat(concat(d, dict(type='ClassBalancedDataset', oversample_thr=0.9, dataset=d))),
    'split_twice': lambda d: dict(type='HeldOutSplit', part='train', ratio=0.3, seed=5, dataset=repeat(d)),
}


@pytest.mark.parametrize('wrap', WRAPPERS.values(), ids=WRAPPERS)
def test_an_image_that_wrappers_repeat_is_in_one_part_alone_and_classes_keep_their_share(folder, wrap, logged):
    init_default_scope('mmpretrain')
    whole = DATASETS.build(wrap(folder(dict(a=30, b=20, c=10))))
    train, held_out = (HeldOutSplit(whole, part, ratio=0.2) for part in ('train', 'held_out'))
    infos = [[part.get_data_info(index) for index in range(len(part))] for part in (train, held_out)]
    paths = [[os.path.realpath(info['img_path']) for info in part] for part in infos]
    assert not set(paths[0]) & set(paths[1]) and not logged
    every = collections.Counter(os.path.realpath(whole.get_data_info(index)['img_path']) for index in range(len(whole)))
    assert set(every) == {*paths[0], *paths[1]}
    assert len(paths[1]) == len(set(paths[1])), 'each held-out image counts once'
    assert all(every[path] == count for path, count in collections.Counter(paths[0]).items()), 'repeats stay in training'
    for label in range(3):
        of_class = {path for path in every if os.path.basename(path).startswith('abc'[label])}
        assert sum(info['gt_label'] == label for info in infos[1]) == round(0.2 * len(of_class))
    again = train.held_out()
    assert [again.get_data_info(index)['img_path'] for index in range(len(again))] == [i['img_path'] for i in infos[1]]


def test_links_and_copies_of_a_file_are_the_same_image(folder, tmp_path):
    dataset = folder(dict(a=10, b=10))
    os.symlink(dataset['data_root'], tmp_path / 'linked')
    shutil.copytree(dataset['data_root'], tmp_path / 'copied')
    several = [dict(dataset, data_root=str(tmp_path / name)) for name in ('train', 'linked', 'copied')]
    other = folder(dict(a=10, b=10), 'other', seed=1)  # the same names
    ids = image_ids(*(DATASETS.build(dict(config, _scope_='mmpretrain')) for config in (*several, other)))
    assert all((found == ids[0]).all() for found in ids[:3]) and len(set(ids[0])) == 20
    assert not set(ids[3]) & set(ids[0])


class Pairs(torch.utils.data.Dataset):
    """A torch data set without information on its images."""

    def __getitem__(self, index):
        return torch.full((1, 2, 2), index % 10) + torch.rand(()), index % 2

    def __len__(self):
        return 20


def test_images_without_information_in_the_data_set_are_compared_by_loading_them():
    state = torch.get_rng_state()
    train, held_out = (HeldOutSplit(Pairs(), part, ratio=0.3) for part in ('train', 'held_out'))
    assert not {int(i) % 10 for i in train.indices} & {int(i) % 10 for i in held_out.indices}
    assert len(held_out) == 3 and len(train) == 14 and torch.equal(torch.get_rng_state(), state)


def test_classes_of_too_few_images_are_trained_on_and_named(folder, logged):
    dataset = dict(folder(dict(a=10, b=1, c=10, d=2)), _scope_='mmpretrain')
    train, held_out = (HeldOutSplit(dataset, part) for part in ('train', 'held_out'))
    count = [collections.Counter(part.get_cat_ids(index)[0] for index in range(len(part))) for part in (train, held_out)]
    assert count == [{0: 8, 1: 1, 2: 8, 3: 2}, {0: 2, 2: 2}]
    assert len(logged) == 1 and "holds out no image of 2 of the 4 classes: 'b' (1 images), 'd' (2 images)" in logged[0]


@pytest.mark.parametrize('stratified', [True, False])
def test_every_class_is_trained_on(stratified):
    labels = np.repeat([0, 1, 2, 3], [10, 1, 2, 10])
    for seed in range(20):
        parts = split(labels, 0.9, seed, stratified)
        assert set(labels[parts['train']]) == {0, 1, 2, 3} and len(parts['held_out']) > 10
