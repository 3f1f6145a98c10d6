"""Images in shards are those of a folder, also split, shuffled and in a search that is resumed."""
import io
import os
import tarfile

import cv2
import numpy as np
import pytest
from mmengine.hooks import Hook
from mmpretrain.registry import DATASETS
from torch.utils.data import DataLoader

from distpro_mm.datasets import image_ids
from distpro_mm.engine.launch import build_trainer
from distpro_mm.errors import ConfigError

hf = pytest.importorskip('datasets')
pytestmark = pytest.mark.long  # the extra shards is installed for these tests
SHARDS, IN_EACH = 3, 20
LOAD = [dict(type='LoadImageFromFile')]
PACK = [*LOAD, dict(type='mmpretrain.PackInputs', meta_keys=())]


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """60 coloured images of 8 x 8, in three classes: in a folder, in parquet and in tar files."""
    root = tmp_path_factory.mktemp('images')
    random = np.random.default_rng(0)
    coded = [cv2.imencode('.png', random.integers(0, 255, (8, 8, 3), dtype=np.uint8))[1].tobytes()
             for _ in range(SHARDS * IN_EACH)]
    labels = [index % 3 for index in range(len(coded))]
    features = hf.Features(picture=hf.Image(), label=hf.ClassLabel(names=['cat', 'dog', 'hen']))
    table = hf.Dataset.from_dict(dict(picture=[dict(bytes=image, path=None) for image in coded], label=labels), features)
    for shard in range(SHARDS):
        table.shard(SHARDS, shard, contiguous=True).to_parquet(root / f'train-{shard}.parquet')
        with tarfile.open(root / f'train-{shard}.tar', 'w') as tar:
            for index in range(shard * IN_EACH, (shard + 1) * IN_EACH):
                for name, content in ((f'{index:06d}.png', coded[index]), (f'{index:06d}.cls', b'%d' % labels[index])):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    for index, image in enumerate(coded):
        folder = root / 'folder' / ['cat', 'dog', 'hen'][labels[index]]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'{index:06d}.png').write_bytes(image)
    return root


def sharded(images, files, **options):
    return dict(type='ShardedImages', data_root=str(images), data_files=files, cache_dir=str(images / 'cache'),
                **{'pipeline': PACK, **options})


@pytest.mark.parametrize('files', ['train-*.parquet', 'train-*.tar', ['train-0.tar', 'train-[12].tar']])
def test_images_and_labels_are_those_of_the_folder(images, files):
    found = DATASETS.build(sharded(images, files))
    folder = DATASETS.build(dict(type='mmpretrain.CustomDataset', data_root=str(images / 'folder'),
                                 pipeline=PACK))
    by_name = {os.path.basename(info['img_path']): index
               for index, info in ((index, folder.get_data_info(index)) for index in range(len(folder)))}
    assert len(found) == len(folder) == SHARDS * IN_EACH
    for index in range(len(found)):
        item, same = found[index], folder[by_name[f'{index:06d}.png']]
        assert (item['inputs'] == same['inputs']).all()
        assert item['data_samples'].gt_label == same['data_samples'].gt_label
    assert list(found.get_gt_labels()) == [index % 3 for index in range(SHARDS * IN_EACH)]
    if 'parquet' in files:
        assert found.metainfo['classes'] == ('cat', 'dog', 'hen')


@pytest.mark.parametrize('ending', ['tar', 'parquet'])
def test_an_image_is_the_same_in_every_list_of_shards(images, ending):
    def listed(*files):
        return DATASETS.build(sharded(images, [f'{name}.{ending}' for name in files]))

    both, first, other = listed('train-*'), listed('train-1', 'train-0'), listed('train-*', 'train-0')
    found, some, again = image_ids(both, first, other)
    assert len(set(found)) == len(both) == len(other) == SHARDS * IN_EACH and list(found) == list(again)
    assert list(some) == [*found[IN_EACH:2 * IN_EACH], *found[:IN_EACH]]
    assert (first[0]['inputs'] == both[IN_EACH]['inputs']).all()


def test_a_held_out_shard_that_is_trained_on_is_refused(images, make_config):
    cfg = make_config('whole_run', 'both')
    cfg.train_dataloader.dataset = sharded(images, 'train-*.tar')
    cfg.train_cfg.held_out_dataloader = dict(cfg.train_dataloader, dataset=sharded(images, 'train-0.tar'))
    with pytest.raises(ConfigError, match='held_out_dataloader'):
        build_trainer(cfg).train()


def test_a_worker_that_is_started_by_spawn_reads_them(images):
    loader = DataLoader(DATASETS.build(sharded(images, 'train-*.parquet')), 20, num_workers=1, collate_fn=list,
                        multiprocessing_context='spawn')
    assert [len(batch) for batch in loader] == [20, 20, 20]


@pytest.mark.parametrize('options, message', [
    (dict(data_files='test-*.tar'), r"ShardedImages.data_files: there is no file '.*test-\*.tar'"),
    (dict(data_files=['train-0.tar', 'train-0.parquet']), 'the files end in .parquet, .tar, and must all end in'),
    (dict(data_files=[]), r'ShardedImages.data_files=\[\] must be one file name or several'),
    (dict(ann_file='train.txt'), 'ShardedImages.ann_file: the labels are a column of the shards; name it by label'),
    (dict(label='picture', image='picture'), "ShardedImages.label='picture': .* is not a class number; give a column"),
    (dict(image='pictures'), r"ShardedImages.image='pictures' \(nearest: picture\): the shards have picture, label"),
    (dict(label='class'), "ShardedImages.label='class': the shards have picture, label")])
def test_what_is_not_there_is_named(images, options, message):
    with pytest.raises(ConfigError, match=message):
        DATASETS.build({**sharded(images, 'train-*.parquet'), **options})


class Stop(Hook):
    def before_train_epoch(self, runner):
        if runner.epoch == 1:
            raise KeyboardInterrupt


def test_a_search_on_shards_holds_images_out_shuffles_and_resumes(images, make_config):
    def search(name, files, workers, stops=False):
        cfg = make_config('whole_run', name)
        cfg.train_dataloader.num_workers = workers
        cfg.train_dataloader.dataset = sharded(images, files, pipeline=[
            *LOAD, dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')])
        cfg.data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor', mean=[127] * 3, std=[64] * 3, num_classes=10)
        cfg.model.architecture.backbone.in_channels, cfg.model.input_shape = 3, (3, 8, 8)
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        runner = build_trainer(cfg, resume='auto')
        if stops:
            runner.register_hook(Stop())
            with pytest.raises(KeyboardInterrupt):
                runner.train()
            return search(name, files, workers)
        runner.train()
        parts = runner.train_loop.dataloader.dataset, runner.train_loop.held_out_dataloader.dataset
        train, held_out = image_ids(*parts)
        assert len(train) == 48 and len(held_out) == 12 and not set(train) & set(held_out)
        return runner.train_loop.process()

    found = search('tar', 'train-*.tar', 0)
    for other in (search('parquet', 'train-*.parquet', 2), search('resumed', 'train-*.parquet', 0, stops=True)):
        assert np.array_equal(found.alpha, other.alpha) and found.origin['trials'] == other.origin['trials']
