"""The documentation site builds without a warning, and the messages of its page on errors are those of the code."""
import ast
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
TROUBLES = (ROOT / 'docs' / 'troubleshooting.md').read_text()
OF_OTHERS = ('CUDA out of memory', 'operator torchvision::nms does not exist')  # messages of libraries


def strings():
    """list[str]: The texts in the code, with a gap for each value that is filled in."""
    found = []
    for path in (*(ROOT / 'distpro').rglob('*.py'), *(ROOT / 'distpro_mm').rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append(''.join(part.value if isinstance(part, ast.Constant) else '\0' for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_the_messages_of_the_page_are_those_of_the_code():
    messages = re.findall(r'^### `(.+)`$', TROUBLES, re.MULTILINE)
    assert len(messages) >= 12 and set(OF_OTHERS) <= set(messages)
    known = strings()
    for message in set(messages) - set(OF_OTHERS):
        pattern = re.compile('.*?'.join(map(re.escape, message.split('...'))), re.DOTALL)
        assert any(pattern.search(text) for text in known), message


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip('material')
    pytest.importorskip('mkdocstrings')
    done = subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', tmp_path / 'site'], cwd=ROOT,
                          capture_output=True, text=True, env={**os.environ, 'NO_MKDOCS_2_WARNING': '1'})
    assert done.returncode == 0 and 'WARNING' not in done.stderr, done.stderr
    site = tmp_path / 'site'
    pages = {path.relative_to(site).as_posix(): path.read_text() for path in site.rglob('*.html')}
    assert {f'{path.stem}.html' for path in (ROOT / 'docs').glob('*.md')} <= set(pages)
    for name in ('distpro.Distillation', 'distpro.search', 'distpro.DistillationProcess.load'):
        assert f'id="{name}"' in pages['api/distpro.html']
    assert 'id="distpro_mm.engine.ReportHook"' in pages['api/distpro_mm.html']
    assert not any(re.search(':(class|func|meth|attr|mod):', page) for page in pages.values())
    loads = re.compile(r'<(script|link|img)[^>]+(src|href)="http')
    assert not any(loads.search(page) for page in pages.values()), 'the site needs no network'
