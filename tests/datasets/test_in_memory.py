"""Images in memory, augmented in batches, equal those of the pipeline for single images."""
import collections

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import RandomFlip
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.datasets.transforms.processing import RandomCrop
from mmpretrain.registry import DATASETS, TRANSFORMS

from distpro_mm.datasets import BatchRandomCrop, BatchRandomFlip, HeldOutSplit, InMemoryDataset, image_ids
from distpro_mm.datasets.reproducible import ReproducibleDataset, SeededIndex
from distpro_mm.errors import ConfigError, DataError
from distpro_mm.models import BatchPreprocessor

PACK = [dict(type='PackInputs')]
DIGITS = dict(type='SklearnDigits', split='train', images_per_class=5, pipeline=PACK)


def loader(dataset, **options):
    return Runner.build_dataloader(dict(batch_size=8, num_workers=0, collate_fn=dict(type='collate_free'), dataset=dataset,
                                        sampler=dict(type='DefaultSampler', shuffle=False), **options), seed=0)


def test_gives_the_images_and_labels_of_the_data_set():
    single = DATASETS.build(DIGITS)
    batches = list(loader(dict(type='mmpretrain.InMemoryDataset', dataset=DIGITS)))
    assert [len(batch['inputs']) for batch in batches] == [8] * 6 + [2]
    assert torch.equal(torch.cat([batch['inputs'] for batch in batches]),
                       torch.stack([single[index]['inputs'] for index in range(50)]))
    labels = [sample.gt_label.item() for batch in batches for sample in batch['data_samples']]
    assert labels == [single[index]['data_samples'].gt_label.item() for index in range(50)]
    whole = InMemoryDataset(DIGITS)
    assert torch.equal(whole[3]['inputs'], single[3]['inputs']) and whole.metainfo == single.metainfo
    with pytest.raises(IndexError):
        whole[50]


def test_a_split_gives_batches_of_its_part():
    whole = InMemoryDataset(DIGITS)
    parts = {part: HeldOutSplit(whole, part) for part in ('train', 'held_out')}
    drawn = {part: torch.cat([batch['inputs'] for batch in loader(dataset)]) for part, dataset in parts.items()}
    for part, dataset in parts.items():
        assert torch.equal(drawn[part], whole.images[dataset.indices])
    assert len(drawn['train']) == 40 and len(drawn['held_out']) == 10


def tell(images, marked):
    """Which crop and flip of the marked image each image is: (row, column, flipped), found by comparing."""
    padded = np.pad(marked, ((2, 2), (2, 2)))
    views = {}
    for row in range(5):
        for column in range(5):
            view = padded[row:row + 6, column:column + 5]
            views[view.tobytes()] = (row, column, False)
            views[view[:, ::-1].tobytes()] = (row, column, True)
    assert len(views) == 50
    return [views[np.ascontiguousarray(image).tobytes()] for image in images]


def test_crops_and_flips_are_distributed_as_for_single_images():
    """Compared with the transforms of mmpretrain and mmcv: the same 50 outcomes with the same frequency."""
    count = 10000
    marked = np.arange(1, 31, dtype=np.uint8).reshape(6, 5)
    crop, flip = RandomCrop(crop_size=(6, 5), padding=2), RandomFlip(prob=0.3, direction='horizontal')
    np.random.seed(0)
    torch.manual_seed(0)
    singles = [flip(crop(dict(img=marked[..., None].copy(), img_shape=(6, 5))))['img'].reshape(6, 5) for _ in range(count)]
    batch = torch.from_numpy(marked).expand(count, 1, 6, 5)
    batch = BatchRandomFlip(prob=0.3)(BatchRandomCrop(padding=2)(batch))
    assert batch.dtype == torch.uint8 and batch.stride() == (30, 30, 5, 1)
    counts = [collections.Counter(tell(images, marked)) for images in (singles, batch[:, 0].numpy())]
    assert set(counts[0]) == set(counts[1])
    expected = {outcome: count * (0.3 if outcome[2] else 0.7) / 25 for outcome in counts[0]}
    for drawn in counts:
        chi_square = sum((drawn[outcome] - expected[outcome])**2 / expected[outcome] for outcome in expected)
        assert chi_square < 98  # 49 degrees of freedom: exceeded with a probability of 1 / 25,000


def test_channels_of_an_image_share_a_crop_and_images_do_not():
    torch.manual_seed(0)
    image = torch.arange(36.).view(1, 1, 6, 6)
    batch = BatchRandomCrop(padding=3)((image + torch.tensor([0., 100.]).view(1, 2, 1, 1)).repeat(50, 1, 1, 1) + 1)
    inside = batch[:, 0] > 0
    assert torch.equal((batch[:, 1] - batch[:, 0])[inside], torch.full_like(batch[:, 0][inside], 100))
    assert len({tuple(crop.flatten().tolist()) for crop in batch[:, 0]}) > 20


def test_the_preprocessor_makes_the_augments_that_a_batch_brings_before_it_normalises():
    preprocessor = BatchPreprocessor(mean=[10.0], std=[2.0], num_classes=10)
    flip = dict(type='BatchRandomFlip', prob=1)
    batch = next(iter(loader(dict(type='mmpretrain.InMemoryDataset', dataset=DIGITS, augments=[flip]))))
    data = preprocessor(batch)
    assert torch.equal(data['inputs'], (batch['inputs'].flip(3).float() - 10) / 2)
    assert [sample.gt_label.item() for sample in data['data_samples']] == \
        [sample.gt_label.item() for sample in batch['data_samples']]
    del batch['augments']
    assert torch.equal(preprocessor(batch)['inputs'], (batch['inputs'].float() - 10) / 2)


def test_images_of_several_sizes_and_bad_arguments_are_refused(tmp_path):
    for name, side in (('a', 8), ('b', 9)):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / '0.png'), np.zeros((side, side, 3), np.uint8))
    folder = dict(type='CustomDataset', data_root=str(tmp_path), pipeline=[dict(type='LoadImageFromFile'), *PACK])
    with pytest.raises(ConfigError, match=r'images of one size, and CustomDataset has .*3, 8, 8.*3, 9, 9.*resize'):
        InMemoryDataset(folder)
    with pytest.raises(ConfigError, match='BatchRandomCrop.padding=0'):
        BatchRandomCrop(0)
    with pytest.raises(ConfigError, match='BatchRandomFlip.prob=2'):
        BatchRandomFlip(2)
    (tmp_path / 'b' / '0.png').write_bytes(b'no image')
    with pytest.raises(DataError, match=r"image '.*b/0.png' cannot be loaded"):
        InMemoryDataset(folder)


def test_images_are_cached_for_the_next_run_only_if_asked_for():
    from distpro_mm.datasets import cache_images
    first, second = InMemoryDataset(DIGITS), InMemoryDataset(DIGITS)
    assert first.images.data_ptr() != second.images.data_ptr()
    cache_images(1)
    try:
        first, second = InMemoryDataset(DIGITS, [dict(type='BatchRandomFlip')]), InMemoryDataset(DIGITS)
        assert first.images.data_ptr() == second.images.data_ptr() and first.augments and not second.augments
        other = InMemoryDataset({**DIGITS, 'split': 'test'})
        assert len(other) != len(first) and InMemoryDataset(DIGITS).images.data_ptr() != first.images.data_ptr()
    finally:
        cache_images(0)


@TRANSFORMS.register_module(force=True)
class OwnRandomNumbers:
    """Random, but without the global random generators."""

    def __init__(self):
        self.random = np.random.default_rng()

    def __call__(self, data):
        return dict(data, img=self.random.permutation(data['img']))


EIGEN = dict(eigval=[55.46, 4.79, 1.15], eigvec=[[-.57, .72, .4], [-.58, -.0045, -.81], [-.58, -.69, .42]])


@pytest.mark.parametrize('step', [
    dict(type='RandomFlip', prob=0.5),
    dict(type='ColorJitter', brightness=0.5),
    dict(type='RandAugment', policies='timm_increasing', num_policies=2, total_level=10, magnitude_level=9),
    dict(type='AutoAugment', policies='imagenet'),
    dict(type='Rotate', angle=30., prob=0.5),
    dict(type='Lighting', **EIGEN),
    dict(type='Invert', prob=0.05),
    dict(type='RandomErasing', erase_prob=0.2),
    dict(type='OwnRandomNumbers'),
], ids=lambda step: step['type'])
def test_a_step_that_is_random_is_refused_by_name(folder, step):
    dataset = folder(dict(a=20, b=20))
    dataset['pipeline'].insert(1, step)
    name = 'a step' if step['type'] == 'OwnRandomNumbers' else step['type']
    state = np.random.get_state()[1].tolist()
    with pytest.raises(ConfigError, match=f'InMemoryDataset.dataset: .*{name}.* in the pipeline of CustomDataset is random'):
        InMemoryDataset(dataset)
    assert np.random.get_state()[1].tolist() == state


@pytest.mark.parametrize('wrap', [
    lambda dataset: dict(type='RepeatDataset', times=2, dataset=dataset),
    lambda dataset: dict(type='ConcatDataset', datasets=[{**DIGITS, 'pipeline': PACK}, dataset]),
    lambda dataset: dict(type='HeldOutSplit', part='train', dataset=dataset),
    lambda dataset: dict(type='HeldOutSplit', part='held_out', dataset=dict(type='RepeatDataset', times=2, dataset=dataset)),
    DATASETS.build,
], ids=['repeat', 'concat', 'split', 'split_of_repeat', 'built'])
def test_a_random_step_is_refused_at_any_depth(wrap):
    refused = pytest.raises(ConfigError, match='RandomFlip.* is random, .*BatchRandomFlip')
    with DefaultScope.overwrite_default_scope('mmpretrain'), refused:
        InMemoryDataset(wrap({**DIGITS, 'pipeline': [dict(type='RandomFlip', prob=0.5), *PACK]}))


def test_steps_that_change_nothing_at_random_are_held_in_memory():
    steps = [dict(type='RandomFlip', prob=0.0), dict(type='Resize', scale=(6, 6)), *PACK]
    assert InMemoryDataset({**DIGITS, 'pipeline': steps}).images.shape == (50, 1, 6, 6)


def test_loading_images_does_not_seed_the_gpu(monkeypatch):
    """The GPU's random numbers belong to the training. mmengine's loops do not seed them again."""
    def seeded(seed):
        raise AssertionError('the GPU was seeded')

    monkeypatch.setattr(torch.cuda, 'manual_seed_all', seeded)
    single = ReproducibleDataset(DATASETS.build(DIGITS))
    assert torch.equal(InMemoryDataset(DIGITS)[7]['inputs'], single[SeededIndex(7, (0, 1, 7))]['inputs'])
    assert image_ids(single)[0].shape == (50, )
