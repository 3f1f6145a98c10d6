"""The wheel and the source distribution hold what is used, and run without the checkout."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SOURCES = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'CHANGELOG.md', 'CITATION.cff', 'LICENSE',
           'requirements', 'distpro', 'distpro_app', 'distpro_mm', 'configs', 'tools', 'tests', 'benchmarks', 'docs')
PIP = (sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check')
OFFLINE = ('--no-deps', '--no-index', '--no-build-isolation')
PAIR = ('--pair', 'resnet20_resnet8-half_digits')
SMALL = ('train_cfg.max_epochs=1', 'train_dataloader.dataset.dataset.images_per_class=10', 'train_dataloader.batch_size=20')
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def call(*command, **options):
    """The output of a command without the paths of this process; the test fails with its errors."""
    environment = {key: value for key, value in os.environ.items() if key not in ('PYTHONPATH', 'DISTPRO_PROCESSES', 'PAIR')}
    done = subprocess.run(list(map(str, command)), text=True, capture_output=True, env=environment, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def made_environment(folder, archive):
    """An environment with the package of an archive, and with all libraries of this one."""
    call(sys.executable, '-m', 'venv', '--without-pip', folder)
    site, = (folder / 'lib').glob('python*/site-packages')
    # Lines of a .pth file inside this folder are not followed: a package that is installed editable there stays unseen.
    (site / 'libraries.pth').write_text(sysconfig.get_path('purelib') + '\n')
    call(sys.executable, '-m', 'pip', '--python', folder / 'bin' / 'python', 'install', '--quiet', *OFFLINE, archive)
    return folder / 'bin'


def mim_folder(environment):
    folder, = (environment.parent / 'lib').glob('python*/site-packages/distpro_mm/.mim')
    return folder


def files(environment):
    """set[str]: The files of the package in an environment, and their bytes."""
    site, = (environment.parent / 'lib').glob('python*/site-packages')
    paths = [path for name in ('distpro', 'distpro_app', 'distpro_mm') for path in (site / name).rglob('*')]
    return {path.relative_to(site).as_posix(): path.read_bytes() for path in paths
            if path.is_file() and '__pycache__' not in path.parts}


@pytest.fixture(scope='module')
def sources(tmp_path_factory):
    """A copy of the checkout: building leaves files there."""
    folder = tmp_path_factory.mktemp('sources') / 'checkout'
    folder.mkdir()
    ignored = shutil.ignore_patterns('__pycache__', '.mim')
    for name in SOURCES:
        path = ROOT / name
        shutil.copytree(path, folder / name, ignore=ignored) if path.is_dir() else shutil.copy(path, folder)
    return folder


@pytest.fixture(scope='module')
def wheel(sources):
    call(*PIP, 'wheel', *OFFLINE, '--wheel-dir', sources.parent, sources)
    path, = sources.parent.glob('*.whl')
    return path


@pytest.fixture(scope='module')
def sdist(sources):
    code = f'from setuptools.build_meta import build_sdist; build_sdist({str(sources.parent)!r})'
    call(sys.executable, '-c', code, cwd=sources)
    path, = sources.parent.glob('*.tar.gz')
    return path


@pytest.fixture(scope='module')
def installed(wheel):
    return made_environment(wheel.parent / 'from_wheel', wheel)


def test_the_wheel_holds_what_is_used_and_nothing_else(wheel, sources):
    names = set(zipfile.ZipFile(wheel).namelist())
    info, = {name.split('/')[0] for name in names if '.dist-info/' in name}
    expected = {'distpro_mm/py.typed', 'distpro/py.typed', f'{info}/licenses/LICENSE', f'{info}/entry_points.txt'}
    for package in ('distpro', 'distpro_app', 'distpro_mm'):
        for path in (sources / package).rglob('*.py'):
            expected.add(path.relative_to(sources).as_posix())
    for folder, target in (('configs', 'distpro_mm/.mim/configs'), ('tools', 'distpro_mm/.mim/tools'),
                           ('distpro/process/shipped', 'distpro/process/shipped'),
                           ('distpro_mm/reporting/templates', 'distpro_mm/reporting/templates')):
        found = [path for path in (sources / folder).rglob('*') if path.is_file()]
        assert found
        expected |= {f'{target}/{path.relative_to(sources / folder).as_posix()}' for path in found}
    assert names - expected == {f'{info}/{name}' for name in ('METADATA', 'WHEEL', 'RECORD', 'top_level.txt')}
    assert expected <= names


def test_an_install_from_the_source_distribution_is_that_of_the_wheel(sdist, installed, tmp_path):
    with tarfile.open(sdist) as archive:
        parts = {name.split('/')[1] for name in archive.getnames() if '/' in name}
    assert {'LICENSE', 'README.md', 'configs', 'tools', 'requirements'} <= parts
    assert not parts & {'tests', 'benchmarks', 'docs', 'data', 'work_dirs', 'build'}
    assert files(made_environment(tmp_path / 'from_sdist', sdist)) == files(installed)


def test_the_core_is_that_of_the_wheel_and_has_its_processes(installed, tmp_path):
    found = call(installed / 'python', '-c', 'import distpro; from distpro.process import load_process; '
                 'print(distpro.__file__, len(load_process("general").names))', cwd=tmp_path).split()
    assert pathlib.Path(found[0]).is_relative_to(installed.parent) and int(found[1]) > 0
    listed = call(installed / 'distpro', 'process', 'list', cwd=tmp_path)
    assert 'general' in listed and 'digits/resnet20-resnet8' in listed


def test_a_teacher_and_a_distillation_are_trained_with_configs_and_tools_of_the_wheel(installed, tmp_path):
    mim = mim_folder(installed)
    call(installed / 'python', mim / 'tools' / 'train.py', mim / 'configs' / 'teachers' / 'resnet20_digits.py',
         '--launcher', 'none', '--work-dir', 'teacher', '--cfg-options', *SMALL, cwd=tmp_path)
    call(installed / 'distpro', 'train', mim / 'configs' / 'distpro' / 'distill.py', *PAIR, '--work-dir', 'student', *SMALL,
         'model.teacher_ckpt=teacher/epoch_1.pth', cwd=tmp_path)
    assert (tmp_path / 'student' / 'report.html').stat().st_size > 0
    replayed = json.loads((tmp_path / 'student' / 'replayed.json').read_text())
    assert 'stem>stem:pointwise' in replayed['pathways']


def test_the_configs_of_the_wheel_can_be_trained(installed, tmp_path):
    assert 'config' in call(installed / 'distpro', 'train', '--help', cwd=tmp_path)
    checked = call(installed / 'distpro', 'validate', mim_folder(installed) / 'configs', *PAIR, cwd=tmp_path)
    assert checked.endswith(' configs checked, 0 cannot be trained\n') and int(checked.split()[0]) > 40
