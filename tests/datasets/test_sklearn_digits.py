"""The embedded data set."""
import numpy as np
import pytest
from sklearn.datasets import load_digits

from distpro_mm.datasets import SklearnDigits
from distpro_mm.errors import ConfigError


def infos(dataset):
    return [dataset.get_data_info(index) for index in range(len(dataset))]


def test_training_and_test_images_are_disjoint_and_all():
    train, test = infos(SklearnDigits('train')), infos(SklearnDigits('test'))
    indices = [info['digits_index'] for info in train + test]
    assert sorted(indices) == list(range(1797)) and len(test) == 700
    assert np.bincount([info['gt_label'] for info in test]).tolist() == [70] * 10


def test_fewer_images_are_a_part_of_all_and_leave_the_test_set_alone():
    few, train = infos(SklearnDigits(images_per_class=30)), infos(SklearnDigits())
    assert {info['digits_index'] for info in few} < {info['digits_index'] for info in train}
    assert np.bincount([info['gt_label'] for info in few]).tolist() == [30] * 10


def test_images_are_those_of_scikit_learn():
    digits = load_digits()
    for info in infos(SklearnDigits('test')):
        assert info['gt_label'] == digits.target[info['digits_index']] and info['img'].dtype == np.uint8
        assert np.abs(info['img'][..., 0] / 255 * 16 - digits.images[info['digits_index']]).max() < 0.04


@pytest.mark.parametrize('arguments, message', [
    (dict(split='val'), "split='val' is not one of train, test"),
    (dict(images_per_class=0), 'images_per_class=0 is not between 1 and'),
    (dict(images_per_class=200), 'images_per_class=200 is not between 1 and'),
])
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        SklearnDigits(**arguments)
