"""Tests the package with one set of versions, and prints the row of docs/compatibility.md.

The last commit is built into a wheel, which is installed into a fresh environment in a temporary folder, together with the
given versions; pip chooses all others within the ranges of setup.py. A part of the tests then runs in a folder without the
checkout, with the configs and tools of the wheel. An environment with a CUDA build of torch takes 6 GB.

    python benchmarks/compatibility.py --python python3.10 --torch 2.6.0 --numpy 1.26.4
"""
import argparse
import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).parents[1]
TESTS = (  # some minutes on a free core
    'plain/test_distillation.py', 'plain/test_plain_search.py', 'process/test_process.py', 'process/test_library.py',
    'test_compat.py', 'test_tools.py', 'test_export.py', 'app/test_folder.py',  # the patches, the tools, the command
    'test_configs.py::test_every_method_of_every_pair_can_be_trained[resnet20_resnet8-half_digits]',
    'engine/test_distpro_search_loop.py::test_a_search_starts_from_a_process_of_the_library',
    'engine/test_resume.py::test_killed_anywhere_and_resumed_is_bit_identical')
SHOWN = ('torch', 'torchvision', 'numpy', 'opencv-python', 'mmengine', 'mmcv-lite', 'mmpretrain', 'onedl-mmengine',
         'onedl-mmcv', 'onedl-mmpretrain', 'mmrazor')
FREE_GIGABYTES = 8


def call(*command: str | os.PathLike, **options) -> str:
    """The output of a command; its errors are shown, and one that fails ends this script."""
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, **options).stdout.strip()


def committed(folder: pathlib.Path) -> str:
    """Copy the last commit into a folder, and return its short name."""
    folder.mkdir()
    archive = subprocess.run(['git', 'archive', 'HEAD'], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(['tar', '-x', '-C', folder], input=archive, check=True)
    return call('git', 'rev-parse', '--short', 'HEAD', cwd=ROOT)


def environment(folder: pathlib.Path, checkout: pathlib.Path, python: str, wanted: list[str]) -> pathlib.Path:
    """Install the wheel of a checkout and what is wanted beside it; returns the environment's interpreter."""
    pip = [folder / 'bin' / 'python', '-m', 'pip', '--quiet', '--no-cache-dir']
    if folder.exists():
        call(*pip, 'uninstall', '--yes', 'distpro_mm')
    else:
        call(python, '-m', 'venv', folder)
    call(*pip, 'wheel', '--no-deps', '--wheel-dir', checkout / 'wheel', checkout)
    wheel, = (checkout / 'wheel').glob('*.whl')
    call(*pip, 'install', '--no-compile', *(one.replace('WHEEL', str(wheel)) for one in wanted), 'pytest', 'pytest-timeout')
    return folder / 'bin' / 'python'


def run_tests(folder: pathlib.Path, checkout: pathlib.Path, python: pathlib.Path, tests: list[str]) -> dict[str, int]:
    """Run tests with the installed package alone; returns how many there were, failed, had errors and were skipped."""
    folder.mkdir()
    find = 'from importlib.util import find_spec; print(find_spec("distpro_mm").submodule_search_locations[0])'
    installed = pathlib.Path(call(python, '-c', find, cwd=folder))
    if not installed.is_relative_to(python.parents[1]):
        raise SystemExit(f'error: {installed} is tested, which is not in {python.parents[1]}: unset PYTHONPATH')
    for name in ('tests', 'docs', 'pyproject.toml'):  # a test reads a process file of the docs
        shutil.move(checkout / name, folder)
    for name in ('configs', 'tools'):
        (folder / name).symlink_to(installed / '.mim' / name)
    # A test that fails is counted, not an error of this script.
    subprocess.run([python, '-m', 'pytest', '--quiet', '--tb=short', '--junit-xml=tests.xml', '-p', 'no:cacheprovider',
                    *(f'tests/{name}' for name in tests)], cwd=folder, stdout=sys.stderr,
                   env={**os.environ, 'OMP_NUM_THREADS': '1'})
    suite = xml.etree.ElementTree.parse(folder / 'tests.xml').getroot()[0]
    return {key: int(suite.get(key)) for key in ('tests', 'failures', 'errors', 'skipped')}


def versions(environment: pathlib.Path) -> dict[str, str]:
    """The versions of the packages that matter in an environment, by name."""
    site, = (environment / 'lib').glob('python*/site-packages')
    installed = importlib.metadata.distributions(path=[str(site)])
    found = {one.metadata['Name'].lower().replace('_', '-'): one.version for one in installed}
    return {name: found[name] for name in SHOWN if name in found}


def main() -> None:
    """Test one set of versions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--python', default=sys.executable, help='interpreter of the environment, e.g. python3.12')
    parser.add_argument('--torch', help='version; by default all versions are those of requirements/constraints.txt')
    parser.add_argument('--numpy', help='version; by default the one that pip takes')
    parser.add_argument('--forks', action='store_true', help="the forks of OpenMMLab's packages: the extra onedl")
    parser.add_argument('--tests', nargs='+', default=TESTS, help='files or folders in tests/')
    parser.add_argument('--environment', help='folder of the environment, which stays and may be used again; by default a '
                        'temporary one')
    arguments = parser.parse_args()
    if shutil.disk_usage(tempfile.gettempdir()).free < FREE_GIGABYTES * 2**30:
        raise SystemExit(f'error: fewer than {FREE_GIGABYTES} GiB are free in {tempfile.gettempdir()}; set TMPDIR')
    if not shutil.which(arguments.python):
        raise SystemExit(f'error: --python {arguments.python} is not an interpreter')
    temporary = tempfile.TemporaryDirectory()
    folder = pathlib.Path(temporary.name)
    environment_folder = pathlib.Path(arguments.environment or folder / 'environment').absolute()
    commit = committed(folder / 'checkout')
    wanted = [f'WHEEL[{"onedl" if arguments.forks else "mm"},app,onnx,report]']
    if arguments.torch:
        wanted.append(f'torch=={arguments.torch}')
    else:
        wanted += ['--constraint', str(folder / 'checkout' / 'requirements' / 'constraints.txt')]
    if arguments.numpy:
        wanted.append(f'numpy=={arguments.numpy}')
    python = environment(environment_folder, folder / 'checkout', arguments.python, wanted)
    start = time.time()
    counts = run_tests(folder / 'outside', folder / 'checkout', python, list(arguments.tests))
    minutes = (time.time() - start) / 60
    failed = counts['failures'] + counts['errors']
    passed = counts['tests'] - failed - counts['skipped']
    resolved = ', '.join(f'{name} {version}' for name, version in versions(environment_folder).items())
    print(f'| {call(python, "-c", "import platform; print(platform.python_version())")} | {resolved} | {passed} | {failed} '
          f'| {counts["skipped"]} | {minutes:.0f} min | {commit} |')
    temporary.cleanup()
    raise SystemExit(failed > 0)


if __name__ == '__main__':
    main()
