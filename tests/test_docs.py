"""The lists in the documentation are complete and correct."""
import pathlib
import re

import pytest
from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from mmrazor.registry import MODELS

import distpro_mm  # noqa: F401  registers everything
from distpro.pathways.transforms import Transform
from distpro_mm.validation import pairs_in

ROOT = pathlib.Path(__file__).parent.parent
REFERENCE = (ROOT / 'docs' / 'config.md').read_text()
PAGES = [*sorted(ROOT.glob('*.md')), *sorted((ROOT / 'docs').glob('*.md'))]


def test_the_reference_lists_every_pair():
    assert [pair for pair in pairs_in(str(ROOT / 'configs')) if f'`{pair}`' not in REFERENCE] == []


def test_the_reference_lists_every_transform():
    own = [name for registry in (MODELS, TRANSFORMS) for name, kind in registry.module_dict.items()
           if kind.__module__.startswith('distpro_mm') and (issubclass(kind, Transform) or registry is TRANSFORMS)]
    assert len(own) >= 7 and [name for name in own if f'`{name}`' not in REFERENCE and f"'{name}'" not in REFERENCE] == []


@pytest.mark.parametrize('name', ['cifar_networks', 'imagenet_networks', 'digits_networks'])
def test_the_reference_lists_every_network(name):
    networks = Config.fromfile(ROOT / 'configs' / '_base_' / 'networks' / f'{name}.py')
    listed = REFERENCE.split(f'`{name}.py` |')[1].split('_networks.py` |')[0]
    assert [network for network in networks if not network.startswith('_') and f'`{network}`' not in listed] == []


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    folders = '|'.join(('tests', 'tools', 'configs', 'benchmarks', 'docs', 'distpro', 'distpro_app', 'distpro_mm'))
    named = re.findall(rf'(?<![\w./-])((?:{folders})/[\w./-]+\.(?:py|sh|md))', page.read_text())
    assert [name for name in named if not (ROOT / name).is_file() and '/NAME.' not in name] == []


def anchors(page):
    """set[str]: Anchors of a page's headings, by GitHub's rule: lower case, hyphens for spaces, no other punctuation."""
    found = []
    for heading in re.findall(r'^#+ +(.+?) *$', re.sub(r'^```.*?^```', '', page.read_text(), flags=re.M | re.S), re.M):
        text = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading).lower()
        slug = re.sub(r'[^\w\- ]', '', text).replace(' ', '-')
        found.append(f'{slug}-{found.count(slug)}' if slug in found else slug)
    return set(found)


@pytest.mark.parametrize('page', [*sorted(ROOT.glob('*.md')), *sorted((ROOT / 'docs').rglob('*.md'))],
                         ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_to_files_and_headings_that_exist(page):
    text = re.sub(r'^```.*?^```|`[^`\n]*`', '', page.read_text(), flags=re.M | re.S)
    for target, anchor in re.findall(r'\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)', text):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f'{target}#{anchor}'


def test_the_citation_names_this_version():
    assert f'\nversion: {distpro_mm.__version__}\n' in (ROOT / 'CITATION.cff').read_text()
