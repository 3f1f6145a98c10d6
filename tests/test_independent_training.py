"""ReviewKD and NORM, trained by the library and by a plain torch loop that follows their definitions.

Both use the same batches and initial weights. The plain loop has its own networks, fusion, losses and schedule. It takes
only batches and weights from the library, and the names of the weights must fit.

The real images: CIFAR100=cifar100_folder TEACHER=<checkpoint of the teacher> python -m pytest -m slow <this file>
"""
import os
import pathlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from torch import nn

from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_trainer

ROOT = pathlib.Path(__file__).resolve().parents[1]


class Block(nn.Module):

    def __init__(self, wide, out, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(wide, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        if stride > 1 or wide != out:
            self.downsample = nn.Sequential(nn.Conv2d(wide, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return y + (self.downsample(x) if hasattr(self, 'downsample') else x)  # before the activation


class ResNet(nn.Module):

    def __init__(self, depth, stem, widths, image_channels, classes):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(image_channels, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem)
        for stage, width in enumerate(widths):
            wide = stem if stage == 0 else widths[stage - 1]
            blocks = [Block(width if block else wide, width, 2 if stage and not block else 1)
                      for block in range((depth - 2) // 6)]
            setattr(self, f'layer{stage + 1}', nn.Sequential(*blocks))
        self.fc = nn.Linear(widths[-1], classes)

    def maps(self, x):
        """Of each stage, before its last activation."""
        x, found = F.relu(self.bn1(self.conv1(x))), []
        for stage in (self.layer1, self.layer2, self.layer3):
            for block in stage:
                last = block(x)
                x = F.relu(last)
            found.append(last)
        return found

    def take(self, state, prefix):
        """Weights of the library's network; every name must fit."""
        own = {key.removeprefix(f'{prefix}backbone.').removeprefix(f'{prefix}head.'): value for key, value in state.items()
               if key.startswith((f'{prefix}backbone.', f'{prefix}head.'))}
        self.load_state_dict(own)
        return self


class ReviewKD(nn.Module):
    """Figure 3 of the paper: residual fusion of maps with attention, from the deepest level to the first."""

    def __init__(self, student, teacher, mid):
        super().__init__()
        self.levels = nn.ModuleList()
        for level, (own, wanted) in enumerate(zip([*student, student[-1]], [*teacher, teacher[-1]])):
            parts = dict(
                reduce=nn.Sequential(nn.Conv2d(own, mid, 1, bias=False), nn.BatchNorm2d(mid)),
                expand=nn.Sequential(nn.Conv2d(mid, wanted, 3, padding=1, bias=False), nn.BatchNorm2d(wanted)))
            if level < len(student):
                parts['attention'] = nn.Conv2d(2 * mid, 2, 1)
            self.levels.append(nn.ModuleDict(parts))

    def forward(self, student_maps, teacher_maps):
        students = [F.relu(x) for x in student_maps]
        students.append(students[-1].mean((2, 3), keepdim=True))
        teachers = [*teacher_maps, F.relu(teacher_maps[-1]).mean((2, 3), keepdim=True)]
        deeper, total = None, 0
        for part, own, wanted in list(zip(self.levels, students, teachers))[::-1]:
            x = part['reduce'](own)
            if deeper is not None:
                deeper = F.interpolate(deeper, x.shape[-2:], mode='nearest')
                weights = torch.sigmoid(part['attention'](torch.cat([x, deeper], 1)))
                x = weights[:, :1] * x + weights[:, 1:] * deeper
            deeper = x
            total = total + hierarchical_context(part['expand'](x), wanted)
        return total


def hierarchical_context(x, y):
    sides = [x.shape[2], *(side for side in (4, 2, 1) if side < x.shape[2])]
    weights = [0.5**place for place in range(len(sides))]
    return sum(weight * F.mse_loss(F.adaptive_avg_pool2d(x, side), F.adaptive_avg_pool2d(y, side))
               for side, weight in zip(sides, weights)) / sum(weights)


class NORM(nn.Module):
    """A wide map matches eight copies of the teacher's map and is the input of the classifier."""

    def __init__(self, own, wanted):
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(own, 8 * wanted, 1, bias=False), nn.BatchNorm2d(8 * wanted))
        self.contract = nn.Sequential(nn.Conv2d(8 * wanted, own, 1, bias=False), nn.BatchNorm2d(own))


class Plain(nn.Module):
    """A student, a fixed teacher and one of the two methods, from the library's initial weights."""

    def __init__(self, method, state, student, teacher, image_channels, classes, weight):
        super().__init__()
        self.method, self.weight = method, weight
        self.student = ResNet(*student, image_channels, classes).take(state, 'architecture.')
        self.teacher = ResNet(*teacher, image_channels, classes).take(state, 'teacher.').eval().requires_grad_(False)
        if method == 'reviewkd':
            self.added, prefix = ReviewKD(student[2], teacher[2], min(512, student[2][-1])), 'distiller.fusions.'
            names = {f'levels.{key.removeprefix(prefix)}': value for key, value in state.items() if key.startswith(prefix)}
        else:
            self.added, prefix = NORM(student[2][-1], teacher[2][-1]), 'architecture.neck.0.'
            names = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        self.added.load_state_dict(names)

    def logits(self, x):
        last = F.relu(self.student.maps(x)[-1])
        if self.method == 'norm':
            last = last + self.added.contract(self.added.expand(last))
        return self.student.fc(last.mean((2, 3)))

    def loss(self, x, labels, ramp):
        with torch.no_grad():
            teacher = self.teacher.maps(x)
        if self.method == 'reviewkd':
            maps = self.student.maps(x)
            own = F.cross_entropy(self.student.fc(F.relu(maps[-1]).mean((2, 3))), labels)
            return own + ramp * self.weight * self.added(maps, teacher)
        last = F.relu(self.student.maps(x)[-1])
        wide = self.added.expand(last)
        logits = self.student.fc((last + self.added.contract(wide)).mean((2, 3)))
        wanted = F.relu(teacher[-1])
        matched = sum(F.mse_loss(part, wanted) for part in wide.chunk(8, dim=1))
        return 0.1 * F.cross_entropy(logits, labels) + matched


class Record(Hook):
    """Stores initial weights, batches and losses of the library's training."""
    priority = 'LOWEST'

    def before_train(self, runner):
        self.state = {key: value.clone() for key, value in runner.model.state_dict().items()}
        self.batches, self.losses = [], []
        runner.model.architecture.register_forward_pre_hook(self.note)

    def note(self, student, inputs):
        if student.training:
            images, samples = inputs
            self.batches.append((images.clone(), torch.cat([sample.gt_label for sample in samples])))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(float(outputs['loss']))


def library_run(method, pair, teacher_checkpoint, seed, folder):
    cfg = load_config(str(ROOT / 'configs/baselines' / f'{method}.py'), pair=pair)
    cfg.update(work_dir=str(folder / f'{method}_{seed}'), log_level='ERROR', randomness=dict(seed=seed))
    cfg.model.teacher_ckpt = teacher_checkpoint
    cfg.experiment_name = f'{method}_{pair}_{seed}'
    runner = build_trainer(cfg)
    record = Record()
    runner.register_hook(record, 'LOWEST')
    runner.train()
    tested = [runner.model.data_preprocessor(batch) for batch in runner.val_dataloader]
    return cfg, record, tested, float(runner.message_hub.get_scalar('val/accuracy/top1').current())


def plain_run(method, cfg, record, tested):
    def shape(network):
        return network.depth, network.get('stem_channels', 16), tuple(network.get('channels', (16, 32, 64)))

    student, teacher = cfg.model.architecture, cfg.model.teacher
    weight = cfg.model.distiller.loss.get('loss_weight', 1.0)
    model = Plain(method, record.state, shape(student.backbone), shape(teacher.backbone),
                  student.backbone.get('in_channels', 3), student.head.num_classes, weight)
    trained = [*model.student.parameters(), *model.added.parameters()]
    sgd = cfg.optim_wrapper.optimizer
    optimizer = torch.optim.SGD(trained, lr=sgd.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(record.batches))
    epoch = len(record.batches) // cfg.train_cfg.max_epochs
    losses = []
    for iteration, (x, labels) in enumerate(record.batches):
        model.student.train()
        ramp = min((iteration // epoch + 1) / cfg.warm_up_epochs, 1)
        loss = model.loss(x, labels, ramp)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    model.student.eval(), model.added.eval()
    right = []
    with torch.no_grad():
        for data in tested:
            labels = torch.cat([sample.gt_label for sample in data['data_samples']])
            right += (model.logits(data['inputs']).argmax(1) == labels).tolist()
    return losses, 100 * float(np.mean(right))


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    def of(pair):
        if 'digits' not in pair:
            if not os.environ.get('TEACHER'):
                pytest.skip('TEACHER is not set: no checkpoint of a teacher of real images')
            return os.environ['TEACHER']
        cfg = load_config(str(ROOT / 'configs/teachers/resnet20_digits.py'))
        cfg.update(work_dir=str(tmp_path_factory.mktemp('teacher')), log_level='ERROR')
        cfg.train_cfg.max_epochs = cfg.train_cfg.val_interval = cfg.default_hooks.checkpoint.interval = 20
        build_trainer(cfg).train()
        return os.path.join(cfg.work_dir, 'epoch_20.pth')
    return of


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize('method', ['reviewkd', 'norm'])
@pytest.mark.parametrize('pair', ['resnet20_resnet8-half_digits', 'resnet20_resnet8_cifar100-small'])
def test_a_loop_of_plain_torch_gives_the_same_student(method, pair, teacher, tmp_path):
    checkpoint = teacher(pair)
    seeds = range(5) if 'digits' in pair else range(1)
    found = []
    for seed in seeds:
        cfg, record, tested, accuracy = library_run(method, pair, checkpoint, seed, tmp_path)
        losses, plain = plain_run(method, cfg, record, tested)
        np.testing.assert_allclose(losses[:5], record.losses[:5], rtol=1e-4)
        print(f'{method}, {pair}, seed {seed}: library {accuracy:.2f}, plain torch {plain:.2f}')
        found.append((accuracy, plain))
    library, plain = np.mean(found, axis=0)
    assert abs(library - plain) < 0.5, found
