"""The tables of docs/architecture.md agree with the contracts of imports, and its stations with the modules."""
import pathlib
import re

import grimp
import pytest

tomllib = pytest.importorskip('tomllib', reason='needs Python 3.11')
ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / 'docs' / 'architecture.md').read_text()
CONTRACTS = tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']['importlinter']['contracts']
STATIONS = re.findall(r'^\| \d+ \| (.+) \| (.+) \|$', PAGE, re.MULTILINE)


def module(path):
    return path.removesuffix('.py').replace('/', '.')


@pytest.fixture(scope='module')
def graph():
    return grimp.build_graph('distpro', 'distpro_mm', 'distpro_app', cache_dir=None)


def test_the_way_has_at_most_twelve_stations():
    assert 10 <= len(STATIONS) <= 12


@pytest.mark.parametrize('text, files', STATIONS, ids=lambda value: None)
def test_what_a_station_names_is_defined_in_its_files(text, files):
    code = '\n'.join((ROOT / file).read_text() for file in re.findall(r'`(\S+\.py)`', files))
    names = [name for name in re.findall(r'`(\w+)`', text) if name != 'cfg_path']
    assert [name for name in names if not re.search(rf'^(def|class) {name}\b', code, re.MULTILINE)] == []


def test_a_station_imports_the_next_one_or_is_imported_by_it(graph):
    places = [[module(file) for file in re.findall(r'`(\S+\.py)`', files)] for _, files in STATIONS]
    for first, second in zip(places, places[1:]):
        assert any(graph.chain_exists(one, other) or graph.chain_exists(other, one)
                   for one in first for other in second), (first, second)


@pytest.mark.parametrize('package', ['distpro', 'distpro_mm', 'distpro_app'])
def test_the_tables_have_the_order_of_the_contract(package):
    table = PAGE.split(f'| `{package}` | purpose')[1].split('\n\n')[0].splitlines()[2:]
    row_of = {name.removesuffix('.py').rstrip('/'): row for row, line in enumerate(table)
              for name in re.findall(r'`([\w./]+)`', line.split('|')[1])}
    layers, = (contract['layers'] for contract in CONTRACTS if contract['type'] == 'layers'
               and contract['layers'][0].rpartition('.')[0] == package)
    rows = [[row_of[part.removeprefix(f'{package}.')] for part in layer.split(' | ')] for layer in reversed(layers)]
    assert all(max(lower) <= min(higher) for lower, higher in zip(rows, rows[1:]))
    assert set(row_of) >= {path.stem for path in (ROOT / package).iterdir() if path.suffix == '.py'} - {
        '__init__', '__main__', 'version', 'arguments'}


def test_no_file_is_longer_than_300_lines():
    files = [path for folder in ('distpro', 'distpro_mm', 'distpro_app', 'tests', 'tools', 'benchmarks')
             for path in (ROOT / folder).rglob('*.py')]
    assert len(files) > 300 and not {str(path) for path in files if path.read_text().count('\n') > 300}
