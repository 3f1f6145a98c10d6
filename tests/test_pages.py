"""Runs the code in the pages for newcomers."""
import pathlib
import re

import pytest
import torch
from mmengine.runner import Runner
from mmrazor.registry import MODELS
from torch.utils.data import DataLoader
from toys import SHAPE, batch, classifier, labelled_images, network

import distpro

DOCS = pathlib.Path(__file__).parent.parent / 'docs'


def blocks(page):
    """list[str]: The Python code of a page."""
    return re.findall(r'```python\n(.*?)```', (DOCS / page).read_text(), re.S)


@pytest.fixture(scope='module')
def own():
    """The names that the code in extending.md defines."""
    names = {}
    exec(compile('\n'.join(blocks('extending.md')), 'extending.md', 'exec'), names)
    yield names
    for registry, name in ((distpro.weighting.WEIGHTINGS, 'softplus'),
                           (distpro.searching.SEARCHERS, 'HillClimbingSearcher')):
        del registry[name]


def test_the_plain_loop_trains_and_searches(tmp_path, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    items = labelled_images(60)
    images = torch.stack([image for image, _ in items])
    student, teacher = network(), network(8)
    before = student[0][0].weight.clone()
    train_loader = DataLoader(items[:40], 20, shuffle=True)
    names = dict(student=student, teacher=teacher, images=images, train_loader=train_loader,
                 held_out_loader=DataLoader(items[40:], 20), epochs=2, steps=2 * len(train_loader))
    loop, search, control = blocks('plain_loop.md')
    controlled = loop.replace('        step += 1\n', f'        {control}        step += 1\n')
    assert controlled != loop
    exec(compile(controlled, 'plain_loop.md', 'exec'), names)
    assert names['step'] == 4 and not torch.equal(student[0][0].weight, before) and names['loss'].isfinite()
    search = search.replace('epochs=epochs)', 'epochs=epochs, min_iterations=2, rounds=1, max_divisions=1)')
    exec(compile(search, 'plain_loop.md', 'exec'), names)
    assert names['kd'].process.names == names['kd'].grid.names
    ours = [line for line in loop.splitlines() if 'distpro' in line or 'kd' in line]
    assert len(ours) <= 15


def test_networks_by_name_train_and_export(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    items = labelled_images(20)
    images = torch.stack([image for image, _ in items]).repeat_interleave(4, 2).repeat_interleave(4, 3)
    loader = DataLoader(list(zip(images, (label for _, label in items))), 10)
    names = dict(images=images, train_loader=loader)
    loop, converted, config = blocks('networks.md')
    exec(compile(loop, 'networks.md', 'exec'), names)
    assert names['loss'].isfinite()
    again = distpro.build_network('torchvision:mobilenet_v3_small', num_classes=5, checkpoint='student.pth').eval()
    assert torch.equal(again(images[:2]), names['student'].eval()(images[:2]))
    exec(compile(converted, 'networks.md', 'exec'), names)
    assert names['out'].loss.isfinite() and distpro.model_input(names['teacher']) is None
    exec(compile(config, 'networks.md', 'exec'), names)
    model = MODELS.build(names['model'])
    assert [tap.layer for tap in model.distiller.taps('transmitter')][-2:] == ['module.layer4', 'logits']


def test_custom_parts_train_in_a_loop(own):
    kd = distpro.Distillation(
        network(), network(8), torch.randn(2, 3, 16, 16), transforms=dict(bottleneck=own['BottleneckTransform']),
        distance=own['CosineDistance'](), weighting=distpro.Weighting('softplus', sharpness=2.0))
    kd(torch.randn(4, 3, 16, 16)).loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in kd.parameters())


def test_custom_parts_are_named_in_configs(own, make_config):
    cfg = make_config(
        'whole_run', train_cfg__searcher=dict(type='HillClimbingSearcher', size=0.5), train_cfg__rounds=2,
        train_cfg__max_epochs=1, model__distiller__transforms=[dict(type='mmrazor.BottleneckTransform')],
        model__distiller__distance=dict(type='CosineDistance'), model__distiller__weighting=dict(
            _delete_=True, type='softplus', sharpness=2.0))
    runner = Runner.from_cfg(cfg)
    runner.train()
    process = distpro.DistillationProcess.load(f'{cfg.work_dir}/process.json')
    assert process.weighting.parameters == dict(sharpness=2.0) and len(process.origin['trials']) == 2
    first, second = (trial.alpha for trial in runner.train_loop.searcher.history)
    assert not torch.equal(first, second)


def test_a_strategy_is_a_file_of_at_most_60_lines():
    assert len(blocks('extending.md')[-1].splitlines()) <= 60


def test_searches_run_without_a_loop_of_the_package(capsys):
    several, settings, forms = blocks('searchers.md')
    sent, goal, knots = [], torch.randn(3, 2), torch.zeros(3, 2)
    most = []

    def receive():
        most.append(len(sent))
        trial = sent.pop(torch.randint(len(sent), ()))
        return trial, 5 + float((trial.alpha - goal).square().sum())

    exec(compile(several, 'searchers.md', 'exec'), dict(
        initial=knots, references=dict(student=knots - 100), workers=4, send=sent.append, receive=receive))
    assert max(most) == 4 and not sent
    exec(compile(settings, 'searchers.md', 'exec'), dict(train=lambda tau, loss: tau + len(loss)))
    assert capsys.readouterr().out.startswith('tensor(')
    distillers = []

    def train(distiller):
        distillers.append(distiller)
        return float(torch.rand(()))

    exec(compile(forms.replace('trials=50', 'trials=12'), 'searchers.md', 'exec'), dict(train=train))
    assert capsys.readouterr().out.startswith("{'transformations': [")
    for distiller in distillers:
        model = MODELS.build(dict(
            _scope_='mmrazor', type='TapDistill', architecture=classifier(4), teacher=classifier(6), input_shape=SHAPE,
            distiller=distiller))
        losses = model(*batch(4), mode='loss')
        assert all(value.isfinite() for name, value in losses.items() if 'loss' in name)
