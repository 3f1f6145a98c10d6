"""The two parts of a training set: disjoint, together the whole, in each class's share."""
import collections

import numpy as np
import pytest
from mmpretrain.registry import DATASETS
from torch.utils.data import DataLoader

from distpro_mm.datasets import HeldOutSplit, SklearnDigits, split
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


def pack(items):  # at the module's top, for the worker to find
    return [(item['data_samples'].gt_label.item(), item['inputs']) for item in items]


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
    with pytest.raises(ConfigError, match='stratified=True needs one label an image'):
        HeldOutSplit(WithoutLabels(), 'train', stratified=True)


class WithSeveral(WithoutLabels):
    """Images with one class or two, as those of detection and of several labels."""

    def get_cat_ids(self, index):
        return [0, 1][:1 + index % 2]


@pytest.mark.parametrize('dataset', [WithoutLabels(), WithSeveral()])
def test_images_without_one_label_each_are_split_all_together_which_is_said_once(dataset, monkeypatch):
    said = []
    monkeypatch.setattr('distpro_mm.datasets.held_out_split.print_log', lambda message, *args: said.append(message))
    parts = [HeldOutSplit(dataset, part, ratio=0.3) for part in ('train', 'held_out')]
    assert sorted([*parts[0], *parts[1]]) == list(range(10)) and len(parts[1]) == 3
    assert len(said) == 1 and f'{type(dataset).__name__} does not give one label an image' in said[0]
    HeldOutSplit(SklearnDigits(images_per_class=15), 'train')
    HeldOutSplit(dataset, 'train', stratified=False)
    assert len(said) == 1
    with pytest.raises(ConfigError, match=f'stratified=True needs one label an image, which {type(dataset).__name__} does'):
        HeldOutSplit(dataset, 'train', stratified=True)
    with pytest.raises(ConfigError, match='holds out 0 of the 10 images .*; choose another ratio or more images'):
        HeldOutSplit(dataset, 'train', ratio=0.01)


@pytest.mark.parametrize('arguments, message', [
    (dict(part='val'), r"part='val' is not one of train, held_out"),
    (dict(part='train', ratio=0), r'held_out\.ratio=0 must be between 0 and 1'),
    (dict(part='train', ratio='a fifth'), r"held_out\.ratio='a fifth' must be between 0 and 1"),
    (dict(part='train', seed='x'), r"held_out\.seed='x' must be a whole number"),
    (dict(part='train', seed=-1), r'held_out\.seed=-1 must be a whole number'),
    (dict(part='train', ratio=1.5), r'held_out\.ratio=1\.5 must be between 0 and 1'),
    (dict(part='train', ratio=0.01), 'holds out 0 of the 15 images of class 0'),
    (dict(part='train', ratio=0.99), 'holds out 15 of the 15 images of class 0'),
])
def test_a_split_that_cannot_work_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        HeldOutSplit(SklearnDigits(images_per_class=15), **arguments)
