"""Shows names in docstrings, such as ``:class:`~distpro.Weighting```, and examples as code."""
import re

import griffe

ROLE = re.compile(r':(?:class|func|meth|attr|mod|data|exc):`(?:~|\.)?([^`]+)`')
EXAMPLE = re.compile(r'^Example:$', re.MULTILINE)  # mkdocstrings expects the plural


class PlainRoles(griffe.Extension):
    """Replaces Sphinx roles and the title of examples in docstrings."""

    def on_object(self, *, obj, **kwargs):
        """Change one docstring."""
        if obj.docstring:
            text = ROLE.sub(lambda found: f'`{found[1]}`', obj.docstring.value)
            obj.docstring.value = EXAMPLE.sub('Examples:', text)
