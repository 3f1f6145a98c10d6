"""Runs the code in the pages for newcomers."""
import argparse
import importlib
import pathlib
import re
import shlex

import pytest
import torch
from mmengine.runner import Runner
from mmrazor.registry import MODELS
from torch.utils.data import DataLoader
from toys import SHAPE, Once, batch, classifier, labelled_images, network

import distpro
from distpro_mm.engine.command_line import add_config_options
from distpro_mm.engine.config_file import load_config

DOCS = pathlib.Path(__file__).parent.parent / 'docs'


def blocks(page):
    """list[str]: The Python code of a page, without what is marked as a fragment."""
    return re.findall(r'(?<!<!-- fragment -->\n)```python\n(.*?)```', (DOCS / page).read_text(), re.S)


@pytest.fixture(scope='module')
def own(tmp_path_factory):
    """The module my_parts of extending.md, in a folder with the other files of the page and with configs."""
    folder = tmp_path_factory.mktemp('own')
    (folder / 'configs').symlink_to(DOCS.parent / 'configs')
    *parts, test, config = blocks('extending.md')
    (folder / 'my_parts.py').write_text('\n'.join(parts))
    for text in (test, config):
        (folder / re.match(r'# (\w+\.py)\n', text)[1]).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module('my_parts')
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
    short = search.replace('epochs=epochs,', 'epochs=epochs, min_iterations=2, max_divisions=1,')
    assert short != search
    exec(compile(short, 'plain_loop.md', 'exec'), names)
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
        network(), network(8), torch.randn(2, 3, 16, 16), transforms=dict(bottleneck=own.BottleneckTransform),
        distance=own.CosineDistance(), weighting=dict(type='softplus', sharpness=2.0))
    kd(torch.randn(4, 3, 16, 16)).loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in kd.parameters())


def test_the_config_of_the_page_searches_with_custom_parts(own, monkeypatch):
    """The command of the page, with a teacher that is not trained and fewer images."""
    monkeypatch.chdir(pathlib.Path(own.__file__).parent)
    line = re.search(r'^PYTHONPATH=\. python tools/train\.py (.*)$', (DOCS / 'extending.md').read_text(), re.MULTILINE)[1]
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    add_config_options(parser)
    given = parser.parse_args(shlex.split(line))
    cfg = load_config(given.config, given.cfg_options, given.pair)
    assert cfg.train_cfg.searcher == dict(type='HillClimbingSearcher', size=0.5, confirmations=0)
    cfg.merge_from_dict({'model.teacher_ckpt': None, 'log_level': 'ERROR', 'train_cfg.min_iterations': 1,
                         'train_dataloader.dataset.dataset.images_per_class': 20, 'experiment_name': 'my_search'})
    runner = Runner.from_cfg(cfg)
    runner.train()
    process = distpro.DistillationProcess.load(f'{cfg.work_dir}/process.json')
    kinds = [trial['kind'] for trial in process.origin['trials']]
    assert kinds == ['student', 'kd', 'step', 'step']
    grid = runner.model.distiller.grid
    assert grid.weighting.parameters == dict(sharpness=2.0) and isinstance(grid.distances['bottleneck'], own.CosineDistance)
    assert {type(transform) for transform in grid.transforms.values()} == {own.BottleneckTransform}
    first, second = (trial.alpha for trial in runner.train_loop.searcher.of_kind('step'))
    assert not torch.equal(first, second)


def test_the_tests_of_the_page_pass_and_find_faults(own, monkeypatch):
    test = next(text for text in blocks('extending.md') if text.startswith('# test_my_parts.py'))
    exec(compile(test, 'test_my_parts.py', 'exec'), {})
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(own.BottleneckTransform, 'forward', lambda self, x, size: Once.apply(type(self).__base__.forward(
            self, x, size)))
        exec(compile(test, 'test_my_parts.py', 'exec'), {})
    monkeypatch.setattr(own.HillClimbingSearcher, 'best_alpha', property(lambda searcher: searcher.base))
    with pytest.raises(AssertionError):
        exec(compile(test, 'test_my_parts.py', 'exec'), {})


def test_a_strategy_is_a_file_of_at_most_60_lines(own):
    assert len(next(text for text in blocks('extending.md') if 'register_searcher' in text).splitlines()) <= 60


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
