"""The mathematics and the images of a distillation on a folder."""
import copy
import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from folder_runs import make_photos
from PIL import Image
from torch import nn

from distpro import Distillation, ModelInput
from distpro.errors import ArgumentError
from distpro.guessing import chance
from distpro_app.deploy import _write_onnx
from distpro_app.evaluation import accuracy, teacher_distance
from distpro_app.images import ImageSet, find_images, read_image
from distpro_app.settings import FolderSettings
from distpro_app.teacher import DECAY, fit_probe
from distpro_app.training import Training, build_optimizer


def settings(**options):
    return FolderSettings(data='photos', teacher='timm:resnet18', student='timm:resnet18', **options)


def test_the_probe_is_where_the_gradient_of_its_objective_is_zero():
    features = (torch.randn(60, 5) * torch.tensor([0.1, 1, 3, 10, 1]) + torch.tensor([3, 0, -1, 20, 0])).double()
    labels = torch.randint(3, (60, ))
    weight, bias = fit_probe(features, labels, 3)
    mean, std = features.mean(0), features.std(0, correction=0)

    def gradient(factor):
        # In standardised features, in which the penalty is defined and a gradient has a scale.
        scaled = [(factor * weight * std).requires_grad_(), (bias + weight @ mean).requires_grad_()]
        scores = (features - mean) / std @ scaled[0].t() + scaled[1]
        loss = (scores.logsumexp(1) - scores.gather(1, labels[:, None])[:, 0]).mean() + DECAY / 2 * (scaled[0]**2).sum()
        return max(float(value.abs().max()) for value in torch.autograd.grad(loss, scaled))

    assert gradient(1) < 1e-4 < 1e-3 < gradient(0.9)


def test_the_limit_of_guessing_is_two_standard_deviations_of_a_binomial():
    count = random.randrange(20, 200)
    labels = [0] * count + [1] * (count // 2) + [2] * (count // 3)
    share, limit = chance(labels)
    right = np.random.RandomState(0).binomial(len(labels), share, 200000) / len(labels)
    assert share == count / len(labels) and abs(limit - (right.mean() + 2 * right.std())) < 2e-3


def test_accuracy_and_distance_count_images_and_not_batches():
    images, labels = torch.randn(7, 3, 8, 8), torch.randint(3, (7, ))
    student, teacher = (nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1),
                                      nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)) for _ in range(2))
    batches = [(images[:4], labels[:4]), (images[4:], labels[4:])]
    assert math.isclose(accuracy(student, batches), float((student(images).argmax(1) == labels).double().mean()))
    kd = Distillation(student, teacher, images[:2], fast_teacher=False, transmitters=['0', '3'], receivers=['0', '3'])
    found = teacher_distance(kd, batches)
    ours, theirs = student(images).softmax(1), teacher(images).softmax(1)
    assert math.isclose(found['kl'], float((theirs * (theirs / ours).log()).sum(1).mean()), rel_tol=1e-4)
    assert math.isclose(found['same_class'], float((ours.argmax(1) == theirs.argmax(1)).double().mean()))
    assert student.training is False and found['features'] > 0
    same = Distillation(student, copy.deepcopy(student), images[:2], transmitters=['0'], receivers=['0'])
    assert teacher_distance(same, batches)['same_class'] == 1


def test_a_split_holds_out_a_share_of_each_class_and_depends_on_the_seed(tmp_path):
    make_photos(tmp_path, np.random.RandomState(0))
    found = find_images(str(tmp_path), True, 0.3, seed=1)
    assert Counter(label for _, label in found.held_out) == {0: 3, 1: 3, 2: 3} and len(found.train) == 21
    assert not set(found.train) & set(found.held_out) and found.classes == ['blue', 'green', 'red']
    assert find_images(str(tmp_path), True, 0.3, seed=1) == found != find_images(str(tmp_path), True, 0.3, seed=2)
    flat = find_images(str(tmp_path), False, 0.3, seed=1)
    assert len(flat.held_out) == 9 and len(flat.train) == 21 and flat.classes == []


@pytest.mark.parametrize('mode, wanted', [('L', [100] * 3), ('RGBA', [90, 100, 110]), ('I;16', [100] * 3), ('1', [255] * 3),
                                          ('LA', [100] * 3), ('P', None), ('CMYK', None)])
def test_images_of_all_modes_are_read_as_rgb(tmp_path, mode, wanted):
    path = tmp_path / ('image.tif' if mode == 'CMYK' else 'image.png')
    if mode == 'I;16':
        Image.fromarray(np.full((4, 5), 100 * 256 + 17, 'uint16')).save(path)
    elif mode == 'RGBA':
        Image.fromarray(np.tile(np.array([90, 100, 110, 7], 'uint8'), (4, 5, 1))).save(path)
    else:
        Image.new('L' if mode != 'P' else 'RGB', (5, 4), 100 if mode != 'P' else (100, 100, 100)).convert(mode).save(path)
    found = read_image(str(path))
    assert found.shape == (3, 4, 5) and found.dtype == torch.uint8
    assert wanted is None or mode == '1' or found[:, 0, 0].tolist() == wanted


def test_a_photo_is_upright(tmp_path):
    image = Image.new('RGB', (6, 4))
    exif = image.getexif()
    exif[274] = 6  # turned by a quarter
    image.save(tmp_path / 'photo.jpg', exif=exif)
    assert read_image(str(tmp_path / 'photo.jpg')).shape == (3, 6, 4)


def test_stored_images_are_those_that_are_decoded_each_time(tmp_path):
    make_photos(tmp_path, np.random.RandomState(0), count=3)
    items = find_images(str(tmp_path), True, 0.5, seed=0).train
    given = ModelInput((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (16, 16))
    stored, decoded = ImageSet(items, given, 1), ImageSet(items, given, 0)
    assert stored.is_stored and not decoded.is_stored
    for _ in range(2):
        assert all(torch.equal(stored[index][0], decoded[index][0]) for index in range(len(items)))
    image = stored[0][0] * torch.tensor(given.std)[:, None, None] + torch.tensor(given.mean)[:, None, None]
    assert image.shape == (3, 16, 16) and 0 <= image.min() and image.max() <= 1
    crops = ImageSet(items, given, 1, min_crop=0.5, flip=True)
    assert not torch.equal(crops[0][0], crops[0][0])


def test_a_torch_that_cannot_export_to_onnx_is_named(monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError('no batch norm\nand a stack')

    monkeypatch.setattr(torch.onnx, 'export', fail)
    with pytest.raises(ArgumentError, match=r'^formats: torch 2\..* to ONNX \(no batch norm\); pass --formats pt2, or'):
        _write_onnx(None, {}, 'student.onnx')


def test_the_optimiser_fits_the_network():
    with_norm, without = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), nn.Linear(2, 2)
    sgd, adamw = torch.optim.SGD, torch.optim.AdamW
    for network, is_random, kind, lr in ((with_norm, True, sgd, 0.05), (with_norm, False, sgd, 0.01),
                                         (without, True, adamw, 1e-3), (without, False, adamw, 3e-4)):
        optimizer = build_optimizer(settings(), network, random_weights=is_random)
        assert type(optimizer) is kind and [group['lr'] for group in optimizer.param_groups] == [lr, lr]
        assert [group['weight_decay'] > 0 for group in optimizer.param_groups] == [True, False]
        assert all(parameter.dim() == 1 for parameter in optimizer.param_groups[1]['params'])
    other = build_optimizer(settings(optimizer='adamw', lr=0.5, weight_decay=0), with_norm, [nn.Parameter(torch.zeros(1))],
                            random_weights=True)
    assert {group['lr'] for group in other.param_groups} == {0.5} and len(other.param_groups[0]['params']) == 2


def test_the_learning_rate_rises_and_ends_near_zero(tmp_path):
    network, rates, shares = nn.Linear(2, 2), [], []
    optimizer = torch.optim.SGD(network.parameters(), 0.1)

    def loss(images, labels, progress):
        rates.append(optimizer.param_groups[0]['lr'])
        shares.append(progress)
        return F.cross_entropy(network(images), labels)

    batches = torch.utils.data.DataLoader([(torch.randn(2), 0), (torch.randn(2), 1)] * 10, 2)

    def train(identity, resume):
        Training(dict(student=network), optimizer, loss, batches, 4, str(tmp_path / 'c.pth'), 0, identity, print).run(
            resume, str)

    train('id', resume=False)
    assert len(rates) == 40 and rates[0] == pytest.approx(0.05) and rates[1] == pytest.approx(
        0.1 * (1 + math.cos(math.pi / 40)) / 2)
    assert rates[1:] == sorted(rates[1:], reverse=True) and rates[-1] < 1e-3
    assert shares[0] == 0 and shares[-1] == 1 and shares == sorted(shares)
    with pytest.raises(ArgumentError, match='is of other settings or images'):
        train('other', resume=True)
    (tmp_path / 'c.pth').write_bytes(b'broken')
    with pytest.raises(ArgumentError, match='cannot be read'):
        train('id', resume=True)


@pytest.mark.parametrize('options', [dict(labels=1), dict(flip='yes'), dict(skip_unreadable=None), dict(method='kdd'),
                                     dict(teacher_weights='none'), dict(teacher_head=True), dict(student_weights=''),
                                     dict(optimizer='rmsprop'), dict(device='tpu')])
def test_a_setting_that_is_no_choice_is_refused_by_name(options):
    (name, value), = options.items()
    with pytest.raises(ArgumentError, match=f'^{name}={value!r} is not one of '):
        settings(**options)


@pytest.mark.parametrize('options', [dict(epochs=0), dict(epochs=1.5), dict(batch_size=1), dict(image_size=4), dict(seed=-1),
                                     dict(min_crop=0), dict(min_crop=1.1), dict(memory=-1), dict(workers=True),
                                     dict(weight_decay=-1), dict(process=''), dict(teacher_ckpt=3), dict(formats='pt2')])
def test_a_number_or_text_out_of_range_is_refused_by_name(options):
    name = next(iter(options))
    with pytest.raises(ArgumentError, match=f'^{name}='):
        settings(**options)
