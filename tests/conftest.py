"""A small search and distillation on the digits, shared by the tests of models, engine and tools."""
import functools
import os
import pathlib
import random
import runpy
import sys
import time
import types

# Tensors this small are slower with several threads, much slower on shared cores.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # required for a deterministic run on a GPU
os.environ.setdefault('TORCHINDUCTOR_COMPILE_THREADS', '1')  # others are processes, each of which imports torch

import numpy as np
import pytest
import sklearn.datasets
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from plain_configs import plain_text
from processes import deterministic

import distpro_mm  # noqa: F401  registers everything
from distpro.searching import Round
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_model
from distpro_mm.reporting import figures, page
from distpro_mm.validation import bases_read_once

ROOT = pathlib.Path(__file__).parent.parent
PAIR = 'resnet20_resnet8-half_digits'
SAVE_FIGURE = figures.save_figure
INSTANCES = {kind: kind._instance_dict.copy() for kind in (DefaultScope, MMLogger, MessageHub, Visualizer)}
PLOTLY = page.plotly
KINDS = dict(search='distpro/published_search', distill='distpro/published_distill', whole_run='distpro/search',
             refine='distpro/refine', search_from_general='distpro/search', distill_refined='distpro/distill_refined')


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def drawn_seed():
    """int: Seeds the random generators of every test. It is drawn, printed if the test fails, and can be given again."""
    seed = int(os.environ.get('DISTPRO_TEST_SEED') or random.SystemRandom().randrange(2**31))
    print(f'drawn values: repeat with DISTPRO_TEST_SEED={seed}')  # pytest shows it with a failure alone
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return seed


@pytest.fixture
def fixed_values(drawn_seed):
    """For tests that a wrong formula gives another value, which drawn values give it by chance now and then."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def the_same_results_on_a_gpu():
    """Tests compare runs bit for bit, which on a GPU requires deterministic kernels."""
    if torch.cuda.is_available():
        deterministic()


@pytest.fixture(autouse=True)
def no_pair_from_outside(monkeypatch):
    monkeypatch.delenv('PAIR', raising=False)


@pytest.fixture(autouse=True)
def no_instances_from_other_tests():
    """mmengine holds the logger, scope, losses and visualizer of each run, and copies all scopes to change the scope."""
    for kind, instances in INSTANCES.items():  # not those before the test, which fixtures of the session may have made
        kind._instance_dict = instances.copy()


@pytest.fixture(scope='session', autouse=True)
def bases_are_read_once():
    with bases_read_once():
        yield


@pytest.fixture(scope='session', autouse=True)
def configs_are_logged_plainly():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, 'pretty_text', property(plain_text))
        yield


@pytest.fixture(scope='session', autouse=True)
def seeding_notes_no_stack():
    """Without a GPU torch formats the stack, which is deep in a test, for each library of GPUs whenever it is seeded."""
    with pytest.MonkeyPatch.context() as patch:
        for library in (torch.cuda, torch.xpu, torch.mtia):
            patch.setattr(library, 'traceback', types.SimpleNamespace(format_stack=lambda: []), raising=False)
        yield


@pytest.fixture(scope='session', autouse=True)
def digits_are_read_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn.datasets, 'load_digits', functools.cache(sklearn.datasets.load_digits))
        yield


@pytest.fixture(scope='session', autouse=True)
def empty_pictures():
    """Figures are made, but written as empty files: rendering takes longer than a small search."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, 'save_figure', lambda figure, path: pathlib.Path(path).write_bytes(b''))
        yield


@pytest.fixture(scope='session', autouse=True)
def reports_without_plotly():
    """Reports are written without the library that draws their figures, which makes them 2 MB large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, 'plotly', lambda: '')
        yield


@pytest.fixture
def real_plotly(monkeypatch):
    """For tests of reports in a browser."""
    monkeypatch.setattr(page, 'plotly', PLOTLY)


@pytest.fixture
def real_pictures(monkeypatch):
    """For tests of the pictures themselves."""
    monkeypatch.setattr(figures, 'save_figure', SAVE_FIGURE)


@pytest.fixture
def differentiated(monkeypatch):
    """set: Numbers of images in the student's forwards while a search differentiates a round."""
    sizes, plain = set(), Round.derivatives

    def watched(current):
        student = current.training.model.student
        handle = student.register_forward_pre_hook(lambda module, inputs: sizes.add(len(inputs[0])))
        try:
            return plain(current)
        finally:
            handle.remove()

    monkeypatch.setattr(Round, 'derivatives', watched)
    return sizes


def small_config(folder, kind, name=None, **options):
    """A small config of one of KINDS or of a baseline. Options have dotted keys with "__" for "."."""
    cfg = load_config(str(ROOT / 'configs' / f'{KINDS.get(kind, f"baselines/{kind}")}.py'), pair=PAIR)
    cfg.work_dir = str(folder / (name or kind))
    cfg.experiment_name = f'{kind}_{time.time_ns()}'
    cfg.log_level = 'ERROR'
    # Single images, as for large images. Only the order is random.
    cfg.train_dataloader.batch_size = 20
    cfg.train_dataloader.collate_fn = dict(type='default_collate')
    cfg.train_dataloader.dataset = cfg.train_dataloader.dataset.pop('dataset')
    cfg.train_dataloader.dataset.images_per_class = 10
    cfg.val_dataloader.dataset.dataset.indices = 100
    cfg.train_cfg.max_epochs = 2
    cfg.train_cfg.val_interval = 100
    cfg.default_hooks.checkpoint.interval = 1
    if kind != 'student':
        if isinstance(cfg.model.architecture.neck, list):  # made for the teacher's channels
            cfg.model.teacher.backbone.depth = 8
        else:
            cfg.model.teacher = cfg.model.architecture
        cfg.model.teacher_ckpt = None
    if kind in (*KINDS, 'equal'):
        cfg.model.distiller.connections = 'nearest_depth'
        cfg.model.distiller.weighting.kd_weight = 1.0
    if kind == 'whole_run':
        # As many rounds as the test asks for, each of all epochs.
        cfg.train_cfg.pop('initial')
        cfg.train_cfg.update(initial_bump=0, feature_weight=1, references=[], max_divisions=0, round_share=1,
                             min_iterations=1)
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    return cfg


@pytest.fixture
def make_config(tmp_path):
    """make_config(kind, name=None, **options): see :func:`small_config`."""
    return functools.partial(small_config, tmp_path)


@pytest.fixture(scope='session')
def trained_teacher(tmp_path_factory):
    """A checkpoint of the small configs' teacher after 12 epochs."""
    cfg = small_config(tmp_path_factory.mktemp('teacher'), 'student', train_cfg__max_epochs=12)
    cfg.train_dataloader.dataset.images_per_class = 60
    Runner.from_cfg(cfg).train()
    return os.path.join(cfg.work_dir, 'epoch_12.pth')


@pytest.fixture
def teacher_ckpt(tmp_path):
    """A checkpoint of the small configs' teacher with random weights."""
    model = build_model(small_config(tmp_path, 'student'))
    path = str(tmp_path / 'teacher.pth')
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


@pytest.fixture
def tool(monkeypatch, capfd):
    """tool(name, *args): run a tool as a script in this process, because importing the toolbox takes seconds."""
    monkeypatch.chdir(ROOT)

    def call(name, *args):
        MMLogger._instance_dict.clear()  # the loggers of earlier calls write to closed streams
        monkeypatch.setattr(sys, 'argv', [f'tools/{name}.py', *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')
        output = capfd.readouterr()
        return types.SimpleNamespace(returncode=ended.value.code, stdout=output.out, stderr=output.err)

    return call


@pytest.fixture(scope='module')
def ray_cluster():
    """A Ray cluster as processes of this machine: a head node without cores. ``add()`` adds a node with one."""
    quiet = dict(object_store_memory=80 * 2**20, include_log_monitor=False)
    made = pytest.importorskip('ray.cluster_utils').Cluster(initialize_head=True, head_node_args=dict(num_cpus=0, **quiet))
    made.add = functools.partial(made.add_node, num_cpus=1, **quiet)
    yield made
    made.shutdown()


@pytest.fixture
def ray_node(ray_cluster):
    """A node of the cluster. All nodes are removed at the end."""
    yield ray_cluster.add()
    for node in list(ray_cluster.worker_nodes):
        ray_cluster.remove_node(node)
