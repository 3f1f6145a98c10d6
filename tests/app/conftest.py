"""The command as a user types it, in a folder with images and networks."""
import sys
import types

import numpy as np
import pytest
from folder_runs import NETWORKS, make_photos

from distpro_app.main import main


@pytest.fixture
def photos(tmp_path):
    """A folder with class folders, which is the present folder's, beside a module with networks."""
    make_photos(tmp_path / 'photos', np.random.RandomState(0))
    (tmp_path / 'tiny_nets.py').write_text(NETWORKS)
    return tmp_path / 'photos'


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """command(*args): run ``distpro`` in this process, in the folder tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', list(sys.path))

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['distpro', *map(str, arguments)])
        code = main()
        output = capfd.readouterr()
        return types.SimpleNamespace(returncode=code, stdout=output.out, stderr=output.err)

    yield call
    sys.modules.pop('tiny_nets', None)
