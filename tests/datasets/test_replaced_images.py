"""A part of a split stays one: images that are given up, mixed, or stored by number."""

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, RepeatDataset
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS

from distpro_mm.datasets import HeldOutSplit, SklearnDigits
from distpro_mm.errors import ConfigError, DataError

DIGITS = dict(type='SklearnDigits', split='train', images_per_class=30)


def repeat(dataset):
    return dict(type='RepeatDataset', times=4, dataset=dataset)


def concat(*datasets):
    return dict(type='ConcatDataset', datasets=list(datasets))


class GivesUp(BaseDataset):
    """Returns None for some images, for which mmengine then loads a random image of the complete set."""

    def load_data_list(self):
        return [dict(img=np.full((1, 1, 1), index), gt_label=0) for index in range(40)]

    def prepare_data(self, index):
        return None if index % 2 else index


class Around:
    """A wrapper of a user."""

    def __init__(self, dataset):
        self.dataset = DATASETS.build(dataset)
        self.metainfo = self.dataset.metainfo

    def full_init(self):
        self.dataset.full_init()

    def __len__(self):
        return len(self.dataset)

    def get_data_info(self, index):
        return self.dataset.get_data_info(index)

    def __getitem__(self, index):
        return self.dataset[index]


def around(dataset):
    return dict(type=Around, dataset=dataset)


def part_of(dataset, seed):
    return dict(type='HeldOutSplit', part='train', ratio=0.3, seed=seed, dataset=dataset)


@pytest.mark.parametrize('part', ['train', 'held_out'])
@pytest.mark.parametrize('wrap', [
    lambda d: d, repeat, lambda d: concat(d, d), around, lambda d: repeat(concat(around(d), d)),
    lambda d: part_of(d, 5), lambda d: repeat(part_of(repeat(d), 5)), lambda d: part_of(part_of(d, 7), 5)])
def test_another_image_in_place_of_one_that_is_given_up_is_of_the_same_part(part, wrap):
    init_default_scope('mmpretrain')
    whole = DATASETS.build(wrap(dict(type=GivesUp)))
    train = HeldOutSplit(whole, 'train', ratio=0.5)
    dataset = train if part == 'train' else train.held_out()
    own = {int(dataset.get_data_info(index)['img']) for index in range(len(dataset))}
    found = {dataset[index] for _ in range(20) for index in range(len(dataset))}
    assert found == {index for index in own if index % 2 == 0} and len(found) > 3
    assert len({whole[index] for index in range(len(whole)) for _ in range(20)}) > len(found), 'the whole set is as it was'


def test_a_part_of_which_all_images_are_given_up_is_named():
    dataset = GivesUp()
    dataset.prepare_data = lambda index: None
    with pytest.raises(DataError, match="the pipeline rejected 1000 images of the part 'held_out' in a row"):
        HeldOutSplit(dataset, 'held_out')[0]


class Mosaic:
    """Mixes several images into one, as data sets of detection do."""

    class Mix:
        def get_indices(self, dataset):
            return np.random.randint(0, len(dataset), 3).tolist()

    def __init__(self, dataset):
        self.dataset, self.pipeline, self.num_samples = dataset, [self.Mix()], len(dataset)
        self.metainfo = dataset.metainfo

    def full_init(self):
        pass

    def get_data_info(self, index):
        return self.dataset.get_data_info(index)

    def __getitem__(self, index):
        return [self.dataset.get_data_info(i)['digits_index'] for i in (index, *self.pipeline[0].get_indices(self.dataset))]

    def __len__(self):
        return self.num_samples


def test_images_are_mixed_with_those_of_the_same_part_alone():
    whole = SklearnDigits(images_per_class=10)
    train = HeldOutSplit(Mosaic(whole), 'train')
    for held_out in (HeldOutSplit(Mosaic(whole), 'held_out'), train.held_out()):
        mixed = [{index for item in range(len(part)) for index in part[item]} for part in (train, held_out)]
        assert not mixed[0] & mixed[1] and len(mixed[1]) == len(held_out) == 20
    with pytest.raises(ConfigError, match='RepeatDataset contains a data set that mixes several images .* outermost'):
        mosaic = Mosaic(whole)
        mosaic.__class__ = type('Mixed', (Mosaic, BaseDataset), {'metainfo': {}})
        HeldOutSplit(RepeatDataset(mosaic, 2), 'train')


def test_a_loss_with_a_memory_of_all_images_has_a_place_for_each_of_concatenated_sets(make_config):
    cfg = make_config('crd', train_cfg__max_epochs=1)
    digits = cfg.train_dataloader.dataset  # 100 images, each set numbered from 0
    cfg.train_dataloader.dataset = concat(dict(digits, indices=list(range(50))), dict(digits, indices=list(range(40, 100))))
    runner = Runner.from_cfg(cfg)
    runner.train()
    labels, = (module.labels for module in runner.model.modules() if hasattr(module, 'labels'))
    assert 80 < (labels[:100] >= 0).sum() and (labels[100:] < 0).all()


def test_images_of_concatenated_sets_do_not_share_a_place_in_a_loop_of_mmengine(make_config):
    cfg = make_config('crd', train_cfg__max_epochs=1, train_cfg__type='EpochBasedTrainLoop')
    digits = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = concat(dict(digits, indices=list(range(50))), dict(digits, indices=list(range(50, 100))))
    with pytest.raises(ConfigError, match=r"sample_idx=\d+\. ConcatDataset numbers .*\.type='mmrazor.ReproducibleTrain"):
        Runner.from_cfg(cfg).train()
