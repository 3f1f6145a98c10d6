"""A benchmark of two epochs on a few digits, once as configs alone and once with all trainings done."""
import os
import pathlib
import shutil
import tempfile
import textwrap
import types

import pytest
import torch

from distpro_mm.comparison import Benchmark, pool, run_benchmark, training

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
BASES = dict(teacher='teachers/resnet20_digits.py', student='baselines/student.py', kd='baselines/kd.py',
             simkd='baselines/simkd.py', search='distpro/published_search.py', replay='distpro/published_distill.py')
SMALL = textwrap.dedent("""
    train_cfg = dict(max_epochs=2)
    param_scheduler = dict(T_max=2)
    train_dataloader = dict(batch_size=20, dataset=dict(dataset=dict(images_per_class=10)))
    val_dataloader = dict(dataset=dict(dataset=dict(indices=100)))
    log_level = 'ERROR'
    """)
BENCHMARK = """
    benchmark = dict(
        pair='resnet20_resnet8-half_digits', teacher='teacher.py',
        stages=dict(search=dict(config='search.py', seeds=[0])),
        methods=dict(
            student='student.py', kd='kd.py',
            distpro=dict(config='replay.py', options={'custom_hooks.0.process': 'stage://search/process'})),
        reference='student', seeds=[0, 1])"""


class SameProcess:
    """Executor that runs each call at once in this process."""

    def __init__(self, *args):
        pass

    def shutdown(self):
        pass

    def submit(self, function, *args):
        future = pool.futures.Future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class Folder:
    """The folder of a test, which is the current one: configs, benchmarks, and ``work`` for the trainings."""

    def __init__(self, path):
        self.path = path
        self.text = textwrap.dedent(BENCHMARK)

    def write(self, *changes, name='small.py'):
        """Write the benchmark with some of its text replaced. Returns its path."""
        text = self.text
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        (self.path / name).write_text(text)
        return name

    def append(self, name, text):
        with open(self.path / f'{name}.py', 'a') as file:
            file.write(text + '\n')

    def run(self, path='small.py', **options):
        """Run a benchmark. Returns the result of run_benchmark with the messages."""
        messages = []
        done = run_benchmark(Benchmark(path, 'work', **options), 1, messages.append)
        return types.SimpleNamespace(**done, messages=messages)


def isolate(patch, path):
    """Run a comparison in a folder, in this process, and separate from the comparisons of other tests."""
    patch.chdir(path)
    patch.setattr(tempfile, 'tempdir', str(path))
    patch.setattr(pool.futures, 'ProcessPoolExecutor', SameProcess)


def write_configs(path):
    for name, base in BASES.items():
        pair = 'resnet20_resnet8-half_digits/' if name != 'teacher' else ''
        work_dir = f"work_dir = 'work_dirs/{pair}{pathlib.Path(base).stem}'\n"
        (path / f'{name}.py').write_text(f"_base_ = '{CONFIGS / base}'\n{SMALL}{work_dir}")
    folder = Folder(path)
    folder.write()
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The configs of the benchmark, without any trainings. No process is started."""
    isolate(monkeypatch, tmp_path)
    return write_configs(tmp_path)


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    """Folder with all trainings of the benchmark and of SimKD, and the initial weights of each student."""
    path, initial = tmp_path_factory.mktemp('trained'), {}
    build_trainer = training.build_trainer

    def build_watched_trainer(cfg, **options):
        runner = build_trainer(cfg, **options)
        call_hook = runner.call_hook

        def call_watched_hook(name, **kwargs):
            call_hook(name, **kwargs)
            if name == 'before_train':
                student = getattr(runner.model, 'architecture', runner.model)
                initial[os.path.relpath(cfg.work_dir, 'work')] = {
                    key: value.clone() for key, value in student.state_dict().items()}

        runner.call_hook = call_watched_hook
        return runner

    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, path)
        patch.delenv('PAIR', raising=False)
        patch.setattr(training, 'build_trainer', build_watched_trainer)
        torch.set_num_threads(1)
        folder = write_configs(path)
        done = folder.run(folder.write(("kd='kd.py'", "kd='kd.py', simkd='simkd.py'")))
    assert done.failed == 0
    return types.SimpleNamespace(path=path, initial=initial)


@pytest.fixture
def done(folder, trained):
    """The configs of the benchmark with finished trainings, so that a test trains only what it changes."""
    shutil.copytree(trained.path / 'work', folder.path / 'work')
    return folder
