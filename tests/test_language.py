"""The text of code and messages avoids words that readers would not search for."""
import ast
import functools
import io
import pathlib
import re
import tokenize

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# Pattern: the plain words.
WORDS = {
    r'mend(s|ed|ing)?': 'fix, patch',
    r'dear(er|est)?': 'expensive',
    r'tells?|told': 'shows, determines',
    r'kept|keeps (?!their)': 'stored, preserved',
    r'puts? out': 'returns',
    r'(lies|lie) (before|behind|beside)': 'is before, is in the same folder',
    r'(goes|go|went|going) on': 'continues',
    r'looks? ahead': 'horizon',
    r'of (one.s|its|their) own': 'its own, specific',
    r'likewise': 'too',
    r'moments?': 'progress, knot',
    r'whole(?! numbers?)': 'entire, valid, atomic',
    r'course': 'schedule',
    r'sentences?': 'message',
    r'spelt out': 'explicit',
    r'moves alpha': 'updates alpha',
    r'carr(y|ies|ied) (it )?over': 'map, transfer',
    r'written beside|moved into place': 'atomic write',
}
CHECKED = ('distpro', 'distpro_app', 'distpro_mm/commands', 'distpro_mm/engine', 'distpro_mm/models', 'distpro_mm/reporting',
           'distpro_mm/config_types.py', 'distpro_mm/errors.py', 'distpro_mm/export.py', 'tools')
UNCHECKED = ('distpro/distillation.py', 'distpro/plain_search.py', 'distpro/searching', 'distpro_mm/engine/loops',
             'tools/compare.py')


def checked_files():
    paths = [path for part in CHECKED for path in ([ROOT / part] if part.endswith('.py') else (ROOT / part).rglob('*.py'))]
    names = sorted(path.relative_to(ROOT).as_posix() for path in paths)
    return [name for name in names if not name.startswith(UNCHECKED)]


@functools.cache
def explanations(path):
    """list[tuple[int, str]]: Line numbers and texts of the comments and docstrings of a file."""
    text = path.read_text()
    found = [(token.start[0], token.string) for token in tokenize.generate_tokens(io.StringIO(text).readline)
             if token.type == tokenize.COMMENT]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            found.append((node.body[0].lineno, ast.get_docstring(node)))
    return found


@pytest.mark.parametrize('pattern', WORDS)
def test_plain_words_explain_tests_and_benchmarks(pattern):
    paths = [path for part in ('tests', 'benchmarks') for path in (ROOT / part).rglob('*.py')]
    assert len(paths) > 100
    found = [f'{path.relative_to(ROOT)}:{number}: {text}' for path in paths for number, text in explanations(path)
             if re.search(rf'\b({pattern})\b', text, re.IGNORECASE)]
    assert not found, f'use {WORDS[pattern]}'


@pytest.mark.parametrize('pattern', WORDS)
def test_plain_words_are_used(pattern):
    names = checked_files()
    assert len(names) > 80
    found = [f'{name}:{number}: {line.strip()}' for name in names
             for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
             if re.search(rf'\b({pattern})\b', line, re.IGNORECASE)]
    assert not found, f'use {WORDS[pattern]}'
