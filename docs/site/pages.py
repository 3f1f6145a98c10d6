"""Pages of the site that are not in docs/: the README, the changelog, the guide for contributors, and the API.

The Markdown of the repository links to files by relative paths, so that it works where it is. Links that leave docs/ are
turned into links to these pages, or into plain text if the file has no page.
"""
import pathlib
import posixpath
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[2]
PAGES = {'README.md': 'index.md', 'CHANGELOG.md': 'changelog.md', 'CONTRIBUTING.md': 'contributing.md'}
API = {
    'distpro': ('The core: the method in torch and numpy.', ['distpro']),
    'distpro_parts': ('Parts of the core, for extensions.', [
        'distpro.pathways', 'distpro.process', 'distpro.searching', 'distpro.tracing', 'distpro.networks']),
    'distpro_mm': ('Classes for mmrazor, mmengine and mmpretrain. Configs name them.', [
        'distpro_mm.models', 'distpro_mm.engine', 'distpro_mm.datasets', 'distpro_mm.comparison', 'distpro_mm.reporting',
        'distpro_mm.engine.launch', 'distpro_mm.engine.config_file', 'distpro_mm.export', 'distpro_mm.errors'])}


def on_files(files, config):
    """Add the pages."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for page, (about, modules) in API.items():
        parts = [f'# API of {page.replace("_parts", ": parts")}\n\n{about}\n']
        parts += [f'::: {module}\n' for module in modules]
        files.append(File.generated(config, f'api/{page}.md', content='\n'.join(parts)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Point links that leave docs/ to the pages of the site."""
    source = next((name for name, made in PAGES.items() if made == page.file.src_uri), None)
    folder = '' if source else posixpath.join('docs', posixpath.dirname(page.file.src_uri))

    def changed(match):
        text, target, anchor = match.groups()
        path = posixpath.normpath(posixpath.join(folder, target))
        if path.startswith('docs/'):
            found = path[len('docs/'):]
        elif path in PAGES:
            found = PAGES[path]
        else:
            return text.removeprefix('[').removesuffix(']')
        return f'{text}({posixpath.relpath(found, posixpath.dirname(page.file.src_uri) or ".")}{anchor or ""})'

    return re.sub(r'(\[[^\]]*\])\((?!https?:|#|mailto:)([^)#\s]+)(#[^)]*)?\)', changed, markdown)
