"""The benchmark of different settings: its images, and the configs of every setting."""
import os
import sys

import numpy as np
import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'benchmarks', 'settings'))

import data  # noqa: E402
import run  # noqa: E402
import settings  # noqa: E402
from distpro_mm.engine.launch import build_model  # noqa: E402

TWELVE = 12  # minimum number of settings, of which at most half are for choosing


def test_the_parts_of_the_made_up_images_have_no_image_in_common_and_every_class():
    parts = data.make_shapes(16, (30, 20, 20, 10))
    images = [image.tobytes() for part in parts.values() for image in part[0]]
    assert len(set(images)) == len(images) == 80
    assert all(set(labels) == set(range(5)) for _, labels in parts.values())
    assert all(np.array_equal(images, again[0]) for (images, _), again in zip(
        parts.values(), data.make_shapes(16, (30, 20, 20, 10)).values()))


def test_digits_for_choosing_are_neither_trained_on_nor_tested():
    parts = data.make_digits()
    images = [{image.tobytes() for image in part[0]} for part in parts.values()]
    assert [len(part[1]) for part in parts.values()] == [300, 700, 200]
    assert not images[2] & images[0] and len(images[2] & images[1]) <= 1  # two scans of the set are identical


def test_an_array_file_gives_its_images(tmp_path):
    file = str(tmp_path / 'images.npz')
    parts = data.make_shapes(16, (30, 20, 20))
    data.save(parts, file)
    val = data.ArrayImages(file, 'val', pipeline=[])
    assert len(val) == 20 and np.array_equal(val[3]['img'], parts['val'][0][3])
    assert list(val.metainfo['classes']) == list('01234')


def test_there_are_twelve_settings_of_which_at_most_half_are_for_choosing():
    choosing = [setting for setting in settings.SETTINGS.values() if setting.for_choosing]
    assert len(settings.SETTINGS) >= TWELVE and len(choosing) <= len(settings.SETTINGS) / 2


@pytest.mark.parametrize('name', settings.SETTINGS)
def test_the_pathways_of_a_setting_can_be_built(tmp_path, name):
    bench = run.Bench(name, str(tmp_path))
    cfg = bench.config('distpro', 0)
    cfg.model.teacher_ckpt = None
    model = build_model(cfg)
    assert 5 <= len(model.distiller.grid.pathways) <= 40
    assert bench.config('student', 0).val_dataloader.dataset.dataset.part == (
        'val' if settings.SETTINGS[name].for_choosing else 'test')
