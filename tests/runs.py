"""The toy runs of the tests: a small config is trained, and watched."""
import copy
import os

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from toys import Once

from distpro.process import DistillationProcess
from distpro.searching import Round
from distpro_mm.models.losses.class_features import LearnsFromTeacher


class Watch(Hook):
    """Calls a function of the runner before or after every iteration; ``seen`` has copies of what it returned."""
    priority = 'LOWEST'

    def __init__(self, before=None, after=None):
        self.before, self.after, self.seen = before, after, []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.before:
            self.seen.append(copy.deepcopy(self.before(runner)))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.after:
            self.seen.append(copy.deepcopy(self.after(runner)))


class Scale(Hook):
    """Doubles the output of the student's second stage, without a second derivative."""

    def before_train(self, runner):
        runner.model.student.backbone.layer2.register_forward_hook(lambda module, given, out: Once.apply(out))


def trained(cfg, *hooks, prepare=None):
    """The runner of a config after its training. ``prepare(runner)`` is called before it."""
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    if prepare:
        prepare(runner)
    runner.train()
    return runner


def learn_made_up_classes(model):
    """Let the losses that need features of every class learn from noise; the images of a test may not have all classes."""
    for loss in model.modules():
        classes = model.teacher.head.num_classes
        labels = torch.arange(2 * classes) // 2
        features = torch.randn(len(labels), model.teacher.head.in_channels)
        if isinstance(loss, LearnsFromTeacher):
            loss.learn(features, labels, torch.randn(len(labels), classes), torch.arange(len(labels)))


def written_process(runner):
    """The process that a search wrote."""
    return DistillationProcess.load(os.path.join(runner.work_dir, 'process.json'))


def with_losses(losses, plain=Round.measure):
    """A replacement of Round.measure that returns the next of given held-out losses."""
    def measure(current):
        plain(current)
        return next(losses)

    return measure
