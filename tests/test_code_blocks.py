"""Every block of Python or bash in the pages is run by a test, or is marked as a fragment and checked without running it."""
import ast
import os
import pathlib
import re
import shlex
import shutil

import mmengine.registry
import mmpretrain.registry
import mmrazor.registry
import numpy as np
import pytest
import typer
from mmengine.registry import Registry

import distpro_mm  # noqa: F401  registers everything
from distpro.process import load_process
from distpro_app.commands import app
from distpro_mm.comparison import Benchmark
from distpro_mm.comparison.searched_tuning import SEARCHERS
from distpro_mm.engine.config_file import load_config

ROOT = pathlib.Path(__file__).parent.parent
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text()
         for path in (*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md'))}
# Page: the test that runs its blocks of Python.
RUN = {'docs/extending.md': 'test_pages.py', 'docs/plain_loop.md': 'test_pages.py', 'docs/networks.md': 'test_pages.py',
       'docs/searchers.md': 'test_pages.py', 'docs/own_pair.md': 'test_own_pair.py'}
MARK = '<!-- fragment -->\n'
BLOCK = re.compile(rf'(?P<mark>{MARK})?```(?P<kind>python|bash)\n(?P<text>.*?)```', re.DOTALL)


def blocks(kind, page=None):
    """list[tuple[str, str, bool]]: Page, text, and whether it is marked, of all blocks of a kind."""
    return [(name, found['text'], bool(found['mark'])) for name, text in PAGES.items() if page in (None, name)
            for found in BLOCK.finditer(text) if found['kind'] == kind]


def parsed(text):
    """The syntax tree of statements, or of arguments such as ``model=...``."""
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.parse(f'dict({text})')


def known_types():
    """set[str]: Names in all registries of the toolboxes, and of the searches of settings."""
    registries = [value for module in (mmengine.registry, mmpretrain.registry, mmrazor.registry)
                  for value in vars(module).values() if isinstance(value, Registry)]
    return {name for registry in registries for name in registry.module_dict} | set(SEARCHERS)


def test_every_block_of_python_is_run_or_marked():
    unmarked = [(page, text) for page, text, marked in blocks('python') if not marked and page not in RUN
                and page not in ('docs/comparing.md', 'docs/process_file.md')]
    assert unmarked == [], f'run it in a test, or write {MARK} before it'
    for page, test in RUN.items():
        assert pathlib.Path(page).name in (ROOT / 'tests' / test).read_text()


@pytest.mark.parametrize('page, text', [(page, text) for page, text, _ in blocks('python')],
                         ids=lambda value: None if '\n' in value else value)
def test_python_is_valid_and_names_types_that_exist(page, text):
    parsed(text)
    own = set(re.findall(r'class (\w+)', '\n'.join(text for _, text, _ in blocks('python', page))))
    named = set(re.findall(r"type='(?:mmrazor\.|mmpretrain\.)?([A-Z]\w+)'", text))
    assert named - own - known_types() == set()


def test_the_benchmark_of_the_page_is_read(tmp_path):
    text, = (text for _, text, marked in blocks('python', 'docs/comparing.md') if not marked)
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    path = tmp_path / 'configs' / 'benchmarks' / 'of_the_page.py'
    path.write_text(text)
    benchmark = Benchmark(str(path))
    assert list(benchmark.methods) == ['student', 'kd', 'distpro', 'uniform', 'random'] and benchmark.evaluations == 10


def test_the_process_of_the_page_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    process = load_process('general')
    process.save('process.json')
    (_, text, marked), = blocks('python', 'docs/process_file.md')
    names = {}
    exec(compile(text, 'process_file.md', 'exec'), names)
    assert not marked and np.array_equal(names['process'].weights, process.weights)


COMMANDS = [(page, line) for page, text, _ in blocks('bash') for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize('page, line', COMMANDS)
def test_commands_name_tools_flags_configs_and_pairs_that_exist(page, line, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(line, comments=True)
    while re.fullmatch(r'[A-Z_0-9]+=\S+', words[0]):
        words.pop(0)
    if words[:2] == ['pip', 'install']:
        extras = re.findall(r'\[(\w+)\]', line)
        assert all(re.search(rf'^        {extra}=', (ROOT / 'setup.py').read_text(), re.MULTILINE) for extra in extras)
        return
    if words[0] == 'make':
        assert re.search(rf'^{words[1]}:', (ROOT / 'Makefile').read_text(), re.MULTILINE)
        return
    if words[0] == 'export':
        assert (ROOT / 'configs' / '_base_' / 'pairs' / f'{words[1].partition("=")[2]}.py').is_file()
        return
    if words[0] == 'distpro':
        command = typer.main.get_command(app).commands[words[1]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith('--')} <= known
        return
    if words[0] == 'ray':
        command = pytest.importorskip('ray.scripts.scripts').cli.commands[words[1]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith('--')} <= known
        return
    program = words[1] if words[0] in ('python', 'bash') else words[0]
    assert os.path.isfile(program), f'{page}: there is no {program}'
    source = pathlib.Path(program).read_text() + (ROOT / 'distpro_mm' / 'engine' / 'command_line.py').read_text()
    if program.endswith('.sh'):  # the flags of tools/train.py, which it starts
        source += (ROOT / 'tools' / 'train.py').read_text()
    for word in words:
        assert not word.startswith('--') or word in source, f'{page}: {program} has no {word}'
    configs = [word for word in words if word.startswith('configs/')]
    assert all(os.path.isfile(config) for config in configs)
    if program == 'tools/train.py' and configs and '/examples/' not in configs[0]:  # these need other toolboxes
        exported = re.search(r'export PAIR=(\S+)', PAGES[page])
        pair = words[words.index('--pair') + 1] if '--pair' in words else exported and exported[1]
        given = words[words.index('--cfg-options') + 1:] if '--cfg-options' in words else []
        pair = None if '/teachers/' in configs[0] else pair
        assert load_config(configs[0], dict(option.split('=', 1) for option in given), pair).model
