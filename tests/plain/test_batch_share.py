"""Derivatives of a search that are computed of a share of each batch."""
import pytest
import torch
import torch.nn.functional as functional
from toys import network

import distpro
from distpro.plain_training import PlainTraining
from distpro.searching import images_of_a_share


def sgd(parameters):
    return torch.optim.SGD(parameters, 0.05, 0.9)


@pytest.mark.parametrize('images, share, used', [
    (100, 0.25, 25), (64, 0.25, 16), (65, 0.5, 33), (32, 0.25, 16), (8, 0.25, 8), (8, 1, 8), (256, 1, 256), (256, 0.01, 16)])
def test_a_share_has_16_images_or_all(images, share, used):
    assert images_of_a_share(images, share) == used


def test_the_loss_is_that_of_the_first_images(data, teacher):
    """Of student alone, against its own loss of these images."""
    student = network()
    training = PlainTraining(student, teacher, *data, functional.cross_entropy, sgd, None, 0, dict(fast_teacher=False), 0.5)
    try:
        images, labels = torch.cat([next(iter(data[0]))[0]] * 2), torch.arange(64) % 5
        found = training.training_loss(dict(training.named_parameters()), torch.zeros(len(training.kd.grid.pathways)), 0,
                                       (images, labels))
        torch.testing.assert_close(found, functional.cross_entropy(student(images[:32]), labels[:32]))
    finally:
        training.close()


@pytest.mark.parametrize('share, used', [(1, 32), (0.75, 24), (0.25, 16)])
def test_a_search_differentiates_that_many_images_of_each_batch(data, teacher, differentiated, share, used):
    distpro.search(network(), teacher, *data, functional.cross_entropy, sgd, epochs=1, min_iterations=5, rounds=2,
                   references=[], max_divisions=0, batch_share=share, report=lambda line: None)
    assert differentiated == {used}


@pytest.mark.parametrize('share', [0, 1.5, 'half', None])
def test_a_share_is_above_0_and_at_most_1(data, teacher, share):
    with pytest.raises(distpro.ArgumentError, match=f'^batch_share={share!r} must be a number above 0'):
        distpro.search(network(), teacher, *data, functional.cross_entropy, sgd, epochs=1, batch_share=share)
