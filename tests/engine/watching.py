"""What the tests of loops and hooks share."""
import os

from mmengine.hooks import Hook

from distpro.process import DistillationProcess


class AfterEach(Hook):
    """Calls a function with the runner after each iteration."""

    def __init__(self, call):
        self.call = call

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.call(runner)


def load(runner):
    """The process that a search wrote."""
    return DistillationProcess.load(os.path.join(runner.work_dir, 'process.json'))
