"""distpro.Distillation: any two torch modules in a plain training loop."""
import copy
import pickle
import subprocess
import sys
import types

import processes
import pytest
import torch
import torch.nn.functional as functional
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from toys import network

import distpro
from distpro_mm.engine.loops.reproducible_train_loop import start_at

MANUAL = dict(progress=[0, 1], weights=dict(features=[1, 10], logits=[3, 3]))


def images(count=6):
    return torch.randn(count, 3, 16, 16)


def distillation(**kwargs):
    torch.manual_seed(0)
    return distpro.Distillation(kwargs.pop('student', None) or network(), kwargs.pop('teacher', None) or network(8),
                                images(2), **kwargs)


def test_the_core_is_imported_without_the_toolbox():
    """In an interpreter in which the toolbox and matplotlib cannot be imported."""
    code = '''if True:
        import sys
        missing = 'mmengine mmcv mmpretrain mmrazor matplotlib sklearn torchvision cmaes distpro_mm'
        for name in missing.split():
            sys.modules[name] = None
        import distpro
        from distpro import pathways, process, searching, tracing
        distpro.search, distpro.Distillation
    '''
    subprocess.run([sys.executable, '-c', code], check=True)


class Start(Hook):
    """Copies the initial weights of a training."""

    def before_train(self, runner):
        self.state = copy.deepcopy(runner.model.state_dict())


def test_both_doors_train_the_same_student_bit_for_bit(make_config, tmp_path):
    process = dict(progress=[0, 0.5, 1], weights=dict(features=[1, 10, 30], logits=[0.5, 5, 20]))
    options = dict(
        train_cfg__max_epochs=3, param_scheduler=None, model__distiller__weighting=dict(type='exponential'),
        model__distiller__logits=[dict(type='KLDivergence', tau=4, name='kl')], model__distiller__map_size=4,
        custom_hooks=[dict(type='mmrazor.ProcessReplayHook', process=process)])
    cfg = make_config('equal', **options)
    runner = Runner.from_cfg(cfg)
    start = Start()
    runner.register_hook(start)
    runner.train()
    trained = runner.model

    other = Runner.from_cfg(make_config('equal', 'plain', **options))
    model, loader = other.model, other.build_train_loop(other.cfg.train_cfg).dataloader
    model.load_state_dict(start.state)
    given = lambda batch: model.data_preprocessor(batch, True)  # noqa: E731
    first = given(next(iter(start_at(loader, 0, 0))))['inputs']
    kd = distpro.Distillation(
        model.student, model.teacher, dict(inputs=first[:2], mode='tensor'), connections='nearest_depth', process=process,
        transforms=dict(pointwise=distpro.pathways.PointwiseTransform))
    kd.grid.load_state_dict(model.distiller.grid.state_dict())
    assert kd.grid.names == model.distiller.grid.names
    settings = dict(cfg.optim_wrapper.optimizer)
    assert settings.pop('type') == 'SGD'
    optimizer = torch.optim.SGD([*model.student.parameters(), *kd.parameters()], **settings)
    model.student.train()
    steps, step = 3 * len(loader), 0
    for epoch in range(3):
        for batch in start_at(loader, epoch, 0):
            data = given(batch)
            labels = torch.cat([sample.gt_label for sample in data['data_samples']])
            out = kd(inputs=data['inputs'], mode='tensor', progress=step / (steps - 1))
            optimizer.zero_grad()
            (functional.cross_entropy(out.logits, labels) + out.loss).backward()
            optimizer.step()
            step += 1
    assert step == runner.iter
    for name, parameter in trained.student.state_dict().items():
        assert torch.equal(parameter, model.student.state_dict()[name]), name
    for name, parameter in trained.distiller.grid.named_parameters():
        assert torch.equal(parameter, dict(kd.grid.named_parameters())[name]), name


def test_the_transforms_are_the_parameters_and_the_student_has_nothing_of_them():
    student = network()
    names = list(student.state_dict())
    kd = distillation(student=student)
    kd(images()).loss.backward()
    assert list(student.state_dict()) == names and not any(module._forward_hooks for module in student.modules())
    own = {id(parameter) for parameter in kd.parameters()}
    assert own and not own & {id(parameter) for parameter in student.parameters()}
    assert all(p.grad is not None for p in [*kd.parameters(), *student.parameters()])
    assert all(p.grad is None for p in kd.teacher.parameters()) and not kd.teacher.training


def test_the_loss_is_the_weighted_sum_and_follows_the_progress():
    kd = distillation(process=MANUAL)
    kd.student.eval()
    for transform in kd.grid.transforms.values():
        transform.eval()
    x = images()
    for progress, weight in ((0, 1), (0.5, 5.5), (1, 10)):
        out = kd(x, progress=progress)
        losses = out.pathways
        features = sum(loss for name, loss in losses.items() if not name.startswith('logits'))
        assert out.loss.item() == pytest.approx(weight * features.item() + 3 * losses['logits>logits:kl'].item(), rel=1e-5)
        assert torch.equal(out.logits, kd.student(x))


def test_a_searched_process_is_replayed_from_its_file(tmp_path):
    kd = distillation()
    process = distpro.DistillationProcess.by_hand(kd.grid.names, [0, 1], [1, 3])
    process.save(str(tmp_path / 'process.json'))
    replayed = distillation(process=str(tmp_path / 'process.json'))
    replayed(images(), progress=0.5)
    assert torch.allclose(replayed.grid.weights(), torch.full((len(kd.grid.names), ), 2.0))
    with pytest.raises(distpro.ArgumentError, match='^process: .*does not fit.*transfer=True'):
        distillation(process=str(tmp_path / 'process.json'), connections='nearest_depth')
    carried = distillation(process=str(tmp_path / 'process.json'), connections='nearest_depth', transfer=True)
    assert carried.process.names == carried.grid.names


def test_without_gradients_the_student_alone_runs():
    kd, ran = distillation(process=MANUAL), []
    kd.teacher.register_forward_hook(lambda *_: ran.append('teacher'))
    x = images()
    with torch.no_grad():
        out = kd(x)
    assert not ran and out.loss == 0 and not out.pathways and torch.equal(out.logits, kd.student(x))


def test_copies_and_pickles_are_on_their_own():
    kd = distillation()
    x = images()
    kd(x)
    for other in (copy.deepcopy(kd), pickle.loads(pickle.dumps(kd))):
        assert other.student is not kd.student
        before = kd.student[0][0].weight.clone()
        other(x).loss.backward()
        assert kd.student[0][0].weight.grad is None and torch.equal(kd.student[0][0].weight, before)


def test_in_place_activations_are_off_until_it_is_closed():
    student = network()
    with distillation(student=student) as kd:
        assert not any(getattr(module, 'inplace', False) for module in student.modules())
        kd(images())
    assert sum(getattr(module, 'inplace', False) for module in student.modules()) == 3


def test_outputs_of_other_libraries_are_read():
    class Named(nn.Module):
        def __init__(self, kind, width):
            super().__init__()
            self.kind, self.network = kind, network(width)

        def forward(self, x):
            logits = self.network(x)
            return dict(dict=dict(logits=logits, hidden=x), object=types.SimpleNamespace(logits=logits),
                        tuple=(logits, x))[self.kind]

    for kind in ('dict', 'object', 'tuple'):
        kd = distillation(student=Named(kind, 4), teacher=Named(kind, 8))
        assert kd(images()).logits.shape == (6, 5)


class TwoHeads(nn.Module):
    """The mean of two classifiers, as a distilled DeiT returns it."""

    def __init__(self, width):
        super().__init__()
        self.body, self.first, self.second = network(width)[:5], nn.Linear(2 * width, 5), nn.Linear(2 * width, 5)

    def forward(self, x):
        x = self.body(x)
        return (self.first(x) + self.second(x)) / 2


def test_logits_that_no_layer_returns_are_compared():
    kd = distillation(student=TwoHeads(4), teacher=TwoHeads(8), fast_teacher=False)
    x = images()
    kd.student.eval()
    out = kd(x)
    expected = distpro.pathways.KLDivergence(4)(kd.student(x), kd.teacher(x))
    assert out.pathways['logits>logits:kl'].item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_compiled_student_has_the_same_loss():
    student = network().eval()
    plain = distillation(student=student)
    compiled = distillation(student=torch.compile(student, backend='eager'))
    compiled.grid.load_state_dict(plain.grid.state_dict())
    for _ in range(2):
        x = images()
        assert compiled(x).loss.item() == pytest.approx(plain(x).loss.item(), rel=1e-5)
    torch._dynamo.reset()


def test_autocast_gives_a_loss_near_that_in_full_precision():
    kd = distillation()
    x = images()
    full = kd(x).loss
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = kd(x)
    half.loss.backward()
    assert half.loss.item() == pytest.approx(full.item(), rel=0.1)


@pytest.mark.parametrize('kwargs, message', [
    (dict(skip_below=-1), 'skip_below=-1 must be a number'),
    (dict(transmitters=['layr']), "^transmitters: the model has no layer 'layr'"),
    (dict(receivers='all'), "^receivers='all' is neither"),
    (dict(connections='deep'), "^connections='deep' is not one of"),
    (dict(process='nowhere.json'), "^process: there is no process file 'nowhere.json'"),
    (dict(process=dict(progress=[0], weights=[-1])), '^process: a hand-tuned process'),
    (dict(teacher=network(8, classes=7)), '^logits: the teacher has 7 classes and the student 5'),
    (dict(student=nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())), "^receivers='auto' found"),
    (dict(compare_at='student'), "^compare_at='student' is not one of teacher, smaller"),
])
def test_wrong_arguments_are_named(kwargs, message):
    with pytest.raises(distpro.ArgumentError, match=message):
        distillation(**kwargs)


def test_progress_is_needed_and_checked():
    kd = distillation(process=MANUAL)
    for progress, message in ((None, 'progress=None: pass the share'), (2.0, 'progress=2.0 must be a number from 0')):
        with pytest.raises(distpro.ArgumentError, match=message):
            kd(images(), progress=progress)
    kd(images(), progress=1.0)
    last = kd.grid.weights().clone()
    with pytest.warns(UserWarning, match='progress=1.2 counts as 1: the training has more steps'):
        kd(images(), progress=1.2)
    assert torch.equal(kd.grid.weights(), last)


def test_one_image_is_no_example():
    with pytest.raises(distpro.ArgumentError, match='^example: 1 image is given'):
        distpro.Distillation(network(), network(8), images(1))


def _train_in_process(rank, folder):
    """Train with one half of the batch in each of two processes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    parallel = nn.parallel.DistributedDataParallel
    torch.manual_seed(0)
    student, teacher = network(), network(8)
    x, labels = images(8), torch.arange(8) % 5
    kd = distpro.Distillation(student, teacher, x[:2], process=MANUAL, skip_below=2)  # skips all but the logits at first
    model = parallel(kd.with_student(), find_unused_parameters=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(2):
        half = slice(rank * 4, rank * 4 + 4)
        out = model(x[half], progress=step)
        optimizer.zero_grad()
        (functional.cross_entropy(out.logits, labels[half]) + out.loss).backward()
        optimizer.step()
    torch.save([p.detach() for p in (*student.parameters(), *kd.parameters())], f'{folder}/{rank}.pth')
    torch.distributed.barrier()  # gloo may hang if a process leaves while the other one still communicates
    torch.distributed.destroy_process_group()


def test_two_processes_train_one_student(tmp_path):
    torch.multiprocessing.start_processes(_train_in_process, (str(tmp_path), ), nprocs=2, start_method=processes.method())
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    torch.manual_seed(0)
    start = [*network().parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(first, start) if b.dim() > 1)
