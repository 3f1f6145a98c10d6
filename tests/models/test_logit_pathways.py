"""Pathways between logits, which DistPro weights like those between features."""
import pytest
import torch
import torch.nn.functional as F
from logit_models import CLASSES, DKD, KL, build
from mmengine.runner import Runner
from mmrazor.registry import MODELS
from toys import SHAPE, batch, classifier

from distpro.process import DistillationProcess
from distpro.random_state import without_side_effects
from distpro.searching import Hypergradient
from distpro_mm.engine.launch import build_trainer
from distpro_mm.errors import ConfigError


def test_each_loss_of_logits_is_a_pathway_with_a_different_name():
    model = build(logits=[KL, DKD, dict(type='KLDivergence', tau=1, name='cold')])
    assert model.distiller.grid.names == ['layer3>layer3:pointwise', 'logits>logits:kl', 'logits>logits:decoupled_kd',
                                     'logits>logits:cold']
    assert model.distiller.grid.alpha.shape == (4, ) and list(model.distiller.grid.transforms) == ['layer3>layer3:pointwise']


@pytest.mark.parametrize('teacher_kl_share', [0.0, 0.3, 1.0])
def test_a_share_of_the_held_out_loss_is_the_distance_to_the_teacher(teacher_kl_share):
    model = build()
    model.teacher.requires_grad_(True)
    images, samples = batch()
    found = model.held_out_loss(dict(inputs=images, data_samples=samples), teacher_kl_share)
    logits, teacher = model.student(images), model.teacher(images)
    p, q = teacher.softmax(1), logits.softmax(1)
    distance = (p * (p / q).log()).sum(1).mean()
    entropy = -q[torch.arange(8), torch.arange(8)].log().mean()
    torch.testing.assert_close(found, (1 - teacher_kl_share) * entropy + teacher_kl_share * distance)
    own, wanted = (torch.autograd.grad(loss, model.student.head.fc.weight)[0]
                   for loss in (found, (1 - teacher_kl_share) * entropy + teacher_kl_share * distance))
    torch.testing.assert_close(own, wanted)
    assert torch.autograd.grad(found, model.teacher.head.fc.weight, allow_unused=True) == (None, )


@pytest.mark.parametrize('share, used', [(1.0, 40), (0.5, 20), (0.1, 16)])
def test_a_share_of_a_batch_is_its_first_images(share, used):
    model = build()
    images, samples = batch(40)
    parameters, weights = dict(model.named_parameters()), torch.rand(len(model.distiller.grid.names))
    found = model.training_loss(dict(inputs=images, data_samples=samples), parameters, weights, share)
    wanted = model.training_loss(dict(inputs=images[:used], data_samples=samples[:used]), parameters, weights)
    torch.testing.assert_close(found, wanted)


def test_a_held_out_batch_delivers_nothing_to_the_next_step():
    pooled = 'mmpretrain.models.necks.gap.GlobalAveragePooling.forward'
    model = build(student=6, distill_deliveries=dict(pooled=dict(type='MethodOutputs', max_keep_data=1, method_path=pooled)))
    images, samples = batch()
    for _ in range(2):
        model(images, samples, mode='loss')
        model.held_out_loss(dict(inputs=images, data_samples=samples), 0.5)


def test_the_objective_adds_the_weighted_losses_of_the_logits():
    model = build().double()
    x, samples = batch(dtype=torch.float64)
    model.distiller.grid.set_weights([0.0, 0.3, 0.7])
    losses = model(x, samples, mode='loss')
    s, t = model.student(x, mode='tensor'), model.teacher(x, mode='tensor')
    labels = torch.arange(8)
    p, q = (t / 4).softmax(1), (s / 4).softmax(1)
    kl = 16 * (p * (p / q).log()).sum(1).mean()
    one = F.one_hot(labels, CLASSES).bool()
    two = [torch.stack([x[one], x[~one].view(8, -1).sum(1)], 1) for x in (p, q)]
    rest = [x[~one].view(8, -1) / x[~one].view(8, -1).sum(1, keepdim=True) for x in (p, q)]
    dkd = 16 * sum(weight * (a * (a / b).log()).sum(1).mean() for weight, (a, b) in ((1, two), (2, rest)))
    torch.testing.assert_close(losses['distill.loss_pathways'], 0.3 * kl + 0.7 * dkd)


def test_logits_alone_need_no_features():
    """The features of a pathway of weight zero are not read. The logits are."""
    model = build()
    model.distiller.grid.set_weights([0.0, 1.0, 0.0])
    assert [tap.name for side in ('transmitter', 'receiver') for tap in model.distiller.taps(side)] == ['logits'] * 2


LR, MOMENTUM, DECAY = 0.05, 0.9, 0.01


def prepare(**distiller):
    model = build(**distiller).double()
    model.init_weights()
    torch.manual_seed(1)
    for p in model.student.head.parameters():  # initialised close to zero, where the teacher's predictions are all the same
        torch.nn.init.normal_(p, std=0.5)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], LR, MOMENTUM, weight_decay=DECAY,
                                nesterov=True)
    return model, optimizer, batch(dtype=torch.float64), batch(dtype=torch.float64)


def step(model, optimizer, data):
    optimizer.zero_grad()
    sum(value for name, value in model(*data, mode='loss').items() if 'loss' in name).backward()
    optimizer.step()


def through_the_whole_update(model, optimizer, data, held):
    """Autograd through the gradient of the training loss, an explicit update, and the held-out loss."""
    w = model.distiller.grid.weights().clone().requires_grad_()
    theta = {f'architecture.{name}': p.detach().clone().requires_grad_() for name, p in model.student.named_parameters()}
    model.distiller.grid.set_weights(w)
    with without_side_effects(model):
        losses = torch.func.functional_call(model, theta, data, dict(mode='loss'))
        gradients = torch.autograd.grad(sum(losses.values()), list(theta.values()), create_graph=True)
        stepped = {}
        for (name, p), g, own in zip(theta.items(), gradients, model.student.parameters()):
            g = g + DECAY * p
            buffer = MOMENTUM * optimizer.state[own]['momentum_buffer'] + g
            stepped[name] = p - LR * (g + MOMENTUM * buffer)
        inner = {name[len('architecture.'):]: p for name, p in stepped.items()}
        held_out = torch.func.functional_call(model.student, inner, held, dict(mode='loss'))['loss']
    model.distiller.grid.set_weights(None)
    return torch.autograd.grad(held_out, w)[0]


@pytest.mark.parametrize('method, tolerance', [('jvp', 1e-8), ('differences', 1e-3)])
def test_the_hypergradient_equals_autograd_through_the_whole_update(method, tolerance):
    model, optimizer, data, held = prepare()
    for _ in range(3):
        step(model, optimizer, data)
    truth = through_the_whole_update(model, optimizer, data, held)
    hypergradient = Hypergradient(model.student, optimizer, method, radius=1e-6)  # small enough that no ReLU changes sign
    model.cache_batch(True)
    hypergradient.watch()
    step(model, optimizer, data)
    measured = hypergradient.after_step(lambda: model.student(*held, mode='loss')['loss'], model.cached_features,
                                        model.distiller.grid.sensitivities())
    assert (truth != 0).all() and (measured - truth).norm() / truth.norm() < tolerance
    for index in range(3):  # for every pathway, not only the largest
        assert measured[index].item() == pytest.approx(truth[index].item(), rel=100 * tolerance)


def test_sensitivities_of_logits_are_those_of_each_unweighted_loss():
    model = build().double()
    data = batch(dtype=torch.float64)
    model.cache_batch(True)
    sum(model(*data, mode='loss').values()).backward()
    caught = list(model.distiller.grid.sensitivities())
    assert [(name, tuple(gradient.shape)) for name, gradient in caught][1:] == [('logits', (8, CLASSES))] * 2
    model.cache_batch(False)
    s, t = model.student(data[0], mode='tensor').detach().requires_grad_(), model.teacher(data[0], mode='tensor')
    kl = 16 * F.kl_div((s / 4).log_softmax(1), (t / 4).softmax(1), reduction='batchmean')
    torch.testing.assert_close(caught[1][1], torch.autograd.grad(kl, s)[0], rtol=1e-9, atol=1e-14)


def test_the_search_s_extra_pass_runs_to_the_classifier_s_output():
    model = build().double()
    model.cache_batch(True)
    data = batch(dtype=torch.float64)
    model(*data, mode='loss')
    features = model.cached_features(model.student)
    torch.testing.assert_close(features['logits'], model.student(data[0], mode='tensor'))


def test_a_search_weighs_logits_and_its_process_replays(make_config):
    logits = dict(model__distiller__logits=[dict(type='KLDivergence', tau=4), dict(type='DecoupledKDLoss', tau=4)])
    search = Runner.from_cfg(make_config('search', **logits))
    search.train()
    path = f'{search.work_dir}/process.json'
    process = DistillationProcess.load(path)
    assert list(process.names[-2:]) == ['logits>logits:kl', 'logits>logits:decoupled_kd']
    moved = abs(process.alpha[-1] - process.alpha[0])
    assert (moved > 0).all(), 'every alpha has moved, the logits too'
    distill = Runner.from_cfg(make_config('distill', custom_hooks__0__process=path, **logits))
    distill.train()
    assert distill.model.distiller.grid.weights().tolist() == pytest.approx(process.weights[-1].tolist(), rel=1e-5)


@pytest.mark.parametrize('options, message', [
    (dict(classes=7), 'model.distiller.logits: the teacher has 10 classes and the student 7'),
    (dict(logits=[KL, KL]), "model.distiller.logits: the label 'kl' is used twice"),
    (dict(logits=dict(type='KLDivergence')), r"model.distiller.logits must be a list of one or more dicts, e.g. \[dict"),
    (dict(receivers=[dict(module='backbone.layer3', name='logits')], connections=[(-1, 0)]),
     "model.distiller.logits: a different layer is called 'logits' too"),
])
def test_what_does_not_do_is_refused_with_its_key(options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)


def test_a_loss_that_wants_labels_refuses_mixed_images():
    model = build()
    x, samples = batch()
    for sample in samples:
        sample.set_gt_score(torch.rand(CLASSES))
    with pytest.raises(ConfigError, match='model.distiller.logits: DecoupledKDLoss needs exactly one label per image'):
        model(x, samples, mode='loss')


# ---- images with several labels


def multi_label(cfg):
    return dict(cfg, head=dict(cfg['head'], type='MultiLabelLinearClsHead'))


@pytest.mark.parametrize('loss, one_label', [
    (KL, True), (DKD, True), (dict(type='StandardizedKLDivergence', tau=2), True), (dict(type='WSLDLoss'), True),
    (dict(type='MultiLevelLogitLoss'), True), (dict(type='DISTLoss'), True), (dict(type='KDSoftCELoss'), True),
    (dict(type='L2Loss', normalize=False), False), (dict(type='L1Loss'), False)])
def test_a_softmax_is_refused_where_images_have_several_labels(loss, one_label):
    distiller = dict(type='DistProDistiller', connections=[('layer3', 'layer3')], logits=[dict(loss, name='it')],
                     transforms=[dict(type='PointwiseTransform')])
    cfg = dict(_scope_='mmrazor', type='DistPro', input_shape=SHAPE, distiller=distiller)
    networks = dict(architecture=classifier(4), teacher=classifier(6))
    assert MODELS.build({**cfg, **networks}).distiller.one_label == ['it'] * one_label
    for side in networks:
        changed = {**cfg, **networks, side: multi_label(networks[side])}
        if one_label:
            with pytest.raises(ConfigError, match=rf'logits: it \({loss["type"]}\): a softmax over the classes'):
                MODELS.build(changed)
        else:
            MODELS.build(changed)


def test_several_labels_of_an_image_are_refused_whatever_the_head():
    images, samples = batch()
    samples[3].set_gt_label([1, 4])
    for loss in (KL, DKD):
        model = build(logits=[loss])
        model.student.head.loss = lambda feats, data_samples, head=model.student.head: dict(loss=head(feats).sum())
        with pytest.raises(ConfigError, match='model.distiller.logits: .*a softmax over the classes'):
            model(images, samples, mode='loss')
    with pytest.raises(ConfigError, match='train_cfg.teacher_kl_share=0.5: a softmax over the classes.*set it to 0'):
        model.held_out_loss(dict(inputs=images, data_samples=samples), 0.5)


@pytest.mark.parametrize('method', ['kd', 'dkd', 'dist', 'equal'])
def test_a_method_on_logits_is_refused_for_a_multi_label_student(make_config, method):
    logits = dict(model__distiller__logits=[KL]) if method == 'equal' else {}
    cfg = make_config(method, model__architecture__head__type='MultiLabelLinearClsHead', **logits)
    with pytest.raises(ConfigError, match='model.distiller.(logits|distill_losses): .*a softmax over the classes'):
        build_trainer(cfg)
