"""Folders of images as people have them."""
import os

import numpy as np
import pytest
import torch
from PIL import Image

from distpro.errors import ArgumentError
from distpro_app.images import check_readable, find_images, read_image


def make(root, *folders, count=4, ending='.png'):
    """Folders with some images each."""
    for folder in folders:
        os.makedirs(root / folder)
        for index in range(count):
            pixels = np.random.RandomState(index).randint(0, 255, (8, 8, 3), 'uint8')
            Image.fromarray(pixels).save(root / folder / f'{index}{ending}')


def found_in(root, labels=True):
    lines = []
    return find_images(str(root), labels, 0.25, 0, lines.append), lines


@pytest.mark.parametrize('train, val', [('train', 'val'), ('Train', 'Val'), ('training', 'validation'), ('train', 'valid')])
def test_a_folder_that_is_split_is_known_by_the_usual_names(tmp_path, train, val):
    make(tmp_path, *(f'{part}/{name}' for part in (train, val, 'test') for name in 'abc'))
    found, lines = found_in(tmp_path)
    assert found.classes == ['a', 'b', 'c'] and len(found.train) == len(found.held_out) == 12 and not lines
    assert all(f'/{val}/' in path for path, _ in found.held_out)


def test_a_class_may_be_called_train(tmp_path):
    make(tmp_path, 'bus', 'car', 'train/steam', 'train/electric')
    found, lines = found_in(tmp_path)
    assert found.classes == ['bus', 'car', 'train'] and len(found.train + found.held_out) == 16 and not lines
    assert len(found_in(tmp_path, labels=False)[0].train + found_in(tmp_path, labels=False)[0].held_out) == 16


def test_what_is_beside_the_parts_is_named(tmp_path):
    make(tmp_path, 'train/a', 'train/b', 'val/a', 'val/b', 'more')
    (tmp_path / 'notes').mkdir()
    found, lines = found_in(tmp_path)
    assert len(found.train) == 8 and len(lines) == 1 and "'train' and 'val' are used, and not 'more'" in lines[0]


def test_train_alone_beside_a_folder_without_images_is_split(tmp_path):
    make(tmp_path, 'train/a', 'train/b')
    (tmp_path / 'notes').mkdir()
    assert found_in(tmp_path)[0].classes == ['a', 'b']


def test_files_of_other_kinds_are_counted(tmp_path):
    make(tmp_path, 'a', 'b')
    for index in range(3):
        (tmp_path / 'a' / f'{index}.jfif').touch()
    (tmp_path / 'b' / 'list').touch()
    _, lines = found_in(tmp_path)
    assert lines == [f"data: of '{tmp_path}', 4 files are no images that can be read: 3 .jfif, 1 no ending"]


def test_a_link_to_a_folder_above_is_not_followed(tmp_path):
    make(tmp_path, 'a', 'b', 'elsewhere/c')
    (tmp_path / 'a' / 'loop').symlink_to(tmp_path)
    (tmp_path / 'b' / 'more').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere').rename(tmp_path.parent / f'{tmp_path.name}_elsewhere')
    (tmp_path / 'b' / 'more').unlink()
    (tmp_path / 'b' / 'more').symlink_to(tmp_path.parent / f'{tmp_path.name}_elsewhere')
    found, _ = found_in(tmp_path)
    assert found.classes == ['a', 'b']
    assert [label for _, label in found.train + found.held_out].count(0) == 4 and len(found.train + found.held_out) == 12


def test_the_results_of_a_run_are_no_class(tmp_path):
    make(tmp_path, 'a', 'b')
    (tmp_path / 'distilled').mkdir()
    (tmp_path / 'distilled' / 'held_out.txt').touch()
    assert found_in(tmp_path)[0].classes == ['a', 'b']


@pytest.mark.parametrize('kind, scale', [('float32', 1), ('int32', 65536 * 100)])
def test_numbers_without_a_known_range_are_refused(tmp_path, kind, scale):
    Image.fromarray((np.random.rand(8, 8) * scale).astype(kind)).save(tmp_path / 'image.tif')
    with pytest.raises(OSError, match='whose numbers have no known range: convert it to 8 or 16 bits'):
        read_image(str(tmp_path / 'image.tif'))


def test_images_of_a_small_range_are_reported(tmp_path):
    make(tmp_path, 'a', 'b', count=1)
    for index in range(3):
        for name in 'ab':
            data = np.random.RandomState(index).randint(0, 4095, (8, 8)).astype('uint16')  # 12 bits
            Image.fromarray(data).save(tmp_path / name / f'dark{index}.png')
    lines = []
    check_readable(found_in(tmp_path)[0], False, lines.append)
    assert len(lines) == 1 and '6 of 8 images have fewer than 17 of 256 levels of brightness' in lines[0]
    assert read_image(str(tmp_path / 'a' / 'dark0.png')).unique().numel() <= 16 and torch.is_tensor(read_image(
        str(tmp_path / 'a' / '0.png')))


def test_a_class_of_val_that_train_has_not_is_named(tmp_path):
    make(tmp_path, 'Train/a', 'Train/b', 'Valid/a', 'Valid/c')
    with pytest.raises(ArgumentError, match="Valid has the class 'c', which Train does not have; it has 2: a, b"):
        found_in(tmp_path)
