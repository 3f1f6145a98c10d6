"""In-context sample retrieval against a plain loop over the memory bank, in float64."""
import copy

import numpy as np
import pytest
import torch
from formulas import LABELS, B, C, K, build, differs, softmax
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from runs import trained

from distpro_mm.errors import ConfigError

N = 30  # images in the bank: six of each class
CLASSES = np.arange(N) % K
INDICES = np.arange(N) + 100
OWN = [INDICES[np.flatnonzero(CLASSES == label)[place]] for place, label in enumerate(LABELS)]  # six images of the bank


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def in_context(s, f, bank, logits, positives=3, negatives=4, sharpness=0.1, tau=4.0, theta=0.1, itself=False, nearest=1,
               power=2):
    """The two losses, image by image."""
    total = np.zeros(2)
    for z, x, label, own in zip(s, f, LABELS, OWN):
        similar = np.array([cosine(x, other) for other in bank])
        near = np.argsort(-nearest * similar)
        same = [n for n in near if CLASSES[n] == label and (itself or INDICES[n] != own)][:positives]
        other = [n for n in near if CLASSES[n] != label][:negatives]
        context = softmax(similar[same] / sharpness) @ logits[same]
        p, q = softmax(context / tau), softmax(z / tau)
        total[0] += tau**power * (p * np.log(p / q)).sum()
        terms = np.exp([cosine(z, target) / theta for target in (context, *logits[other])])
        total[1] -= np.log(terms[0] / terms.sum())
    return total / len(s)


@pytest.fixture
def learned(draw):
    bank, logits = draw(N, C), 3 * draw(N, K)
    loss = build(type='InContextLoss', num_classes=K, positives=3, negatives=4, weights=(2.0, 0.5))
    loss.learn(*map(torch.from_numpy, (bank, CLASSES, logits, INDICES)))
    return loss, bank, logits


def annotations():
    samples = [DataSample(metainfo=dict(sample_idx=int(own))) for own in OWN]
    return dict(data_samples=samples, gt_labels=torch.from_numpy(LABELS))


def test_the_losses_compare_the_student_with_retrieved_logits(learned, draw):
    loss, bank, logits = learned
    s = 3 * draw(B, K)
    f = np.array([bank[own - 100] for own in OWN]) + 0.3 * draw(B, C)  # the image itself, augmented
    found = loss(torch.from_numpy(s), torch.from_numpy(f)[:, :, None, None], **annotations())
    expected = in_context(s, f, bank, logits)
    assert [part.item() for part in found] == pytest.approx(expected * [2.0, 0.5], rel=1e-7)
    assert (np.argmax(bank @ f.T / np.linalg.norm(bank, axis=1)[:, None], 0) == np.array(OWN) - 100).any()
    for wrong in (dict(itself=True), dict(nearest=-1), dict(sharpness=1), dict(tau=1), dict(positives=5), dict(power=0)):
        differs(expected[0], in_context(s, f, bank, logits, **wrong)[0])
    for wrong in (dict(nearest=-1), dict(theta=1), dict(negatives=8), dict(itself=True)):
        differs(expected[1], in_context(s, f, bank, logits, **wrong)[1])
    student = torch.from_numpy(s).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, torch.from_numpy(f), **annotations()), (student, ))


def test_classes_may_differ_in_size(draw):
    """The largest class has 20 images and the smallest one two, of which one is the image itself."""
    labels = np.repeat([3, 0, 1, 2, 4], [20, 2, 3, 4, 5])
    bank, logits = draw(len(labels), C), draw(len(labels), K)
    loss = build(type='InContextLoss', num_classes=K, positives=3, negatives=14)
    loss.learn(*map(torch.from_numpy, (bank, labels, logits, np.arange(len(labels)))))
    s, f = draw(1, K), draw(1, C)
    sample = dict(data_samples=[DataSample(metainfo=dict(sample_idx=20))], gt_labels=torch.tensor([0]))
    positive, negative = loss(torch.from_numpy(s), torch.from_numpy(f), **sample)
    p, q = softmax(logits[21] / 4), softmax(s[0] / 4)  # the other image of the class alone
    assert positive.item() == pytest.approx(16 * (p * np.log(p / q)).sum(), rel=1e-7)
    near = sorted((row for row in range(len(labels)) if labels[row] != 0), key=lambda row: -cosine(f[0], bank[row]))[:14]
    terms = np.exp([cosine(s[0], target) / 0.1 for target in (logits[21], *logits[near])])
    assert negative.item() == pytest.approx(-np.log(terms[0] / terms.sum()), rel=1e-7)


def test_a_class_with_few_images_has_fewer_positives(draw):
    loss = build(type='InContextLoss', num_classes=K, positives=50, negatives=100)
    bank, logits = draw(N, C), draw(N, K)
    loss.learn(*map(torch.from_numpy, (bank, CLASSES, logits, INDICES)))
    s, f = draw(B, K), draw(B, C)
    found = loss(torch.from_numpy(s), torch.from_numpy(f), **annotations())
    assert [part.item() for part in found] == pytest.approx(in_context(s, f, bank, logits, 5, 24), rel=1e-7)


def test_a_bank_that_is_missing_or_has_a_single_image_of_a_class_is_refused(draw):
    loss = build(type='InContextLoss', num_classes=K)
    with pytest.raises(ConfigError, match="InContextLoss has no memory bank: add dict.type='mmrazor.TeacherClassesHook'"):
        loss(torch.zeros(B, K), torch.zeros(B, C), **annotations())
    features, logits = torch.from_numpy(draw(9, C)), torch.from_numpy(draw(9, K))
    with pytest.raises(ConfigError, match='InContextLoss.num_classes=5: the training set has 1 images of class 4'):
        loss.learn(features, torch.arange(9) % K, logits, torch.arange(9))
    with pytest.raises(ConfigError, match='InContextLoss needs the sample_idx of every image'):
        build(type='InContextLoss', num_classes=4).learn(features, torch.arange(9) % 4, logits[:, :4],
                                                         torch.full((9, ), -1))
    for key, value in dict(positives=0, tau=0, sharpness=-1).items():
        with pytest.raises(ConfigError, match=f'^model.distiller.loss.{key}={value} must be'):
            build(type='InContextLoss', num_classes=K, **{key: value})


def test_the_bank_has_the_training_images_and_a_resumed_run_makes_it_again(make_config):
    cfg = make_config('ickd')
    model = trained(copy.deepcopy(cfg)).model
    loss = model.distiller.context_loss
    assert len(loss.labels) == 100 and sorted(loss.indices.tolist()) == list(range(100))
    assert not any('context_loss' in name for name in model.state_dict())
    torch.testing.assert_close(loss.features.norm(dim=1), torch.ones_like(loss.features[:, 0]))
    # What the bank stores of an image is what is read of it in training; these images are not augmented.
    runner = Runner.from_cfg(make_config('ickd', name='again', train_cfg__max_epochs=1))
    runner.train()
    again, batch = runner.model.distiller, next(iter(runner.train_dataloader))
    data = runner.model.data_preprocessor(batch, False)
    with torch.no_grad(), again.transmitter_reader(runner.model.teacher) as reader:
        runner.model.teacher(data['inputs'], mode='tensor')
    indices = [sample.sample_idx for sample in data['data_samples']]
    rows = [again.context_loss.indices.tolist().index(index) for index in indices]
    labels = [int(sample.gt_label) for sample in data['data_samples']]
    assert again.context_loss.labels[rows].tolist() == labels
    stored = again.context_loss.features[rows]
    torch.testing.assert_close(stored, torch.nn.functional.normalize(reader.features['feature']), rtol=1e-4, atol=1e-4)
