"""What a Ray cluster is asked for, and what a node without the shared folder answers. No cluster is started."""
import pytest

from distpro_mm.engine.ray_pool import RayOptions, RayPool, _problem, _versions
from distpro_mm.errors import ArgumentError, ConfigError


@pytest.mark.parametrize('given, message', [
    (dict(cpus=0), 'cpus=0 must be a whole number from 1'), (dict(cpus=1.5), 'cpus=1.5 must be a whole number'),
    (dict(gpus=-1), 'gpus=-1 must be a number at least 0'), (dict(gpus=1.5), 'gpus=1.5 must be a whole number or'),
    (dict(memory=0), 'memory=0 must be a number above 0'), (dict(address=''), "address='' must be 'auto', 'local' or")])
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(ArgumentError, match=message):
        RayOptions(**given)


def test_an_address_where_nothing_listens_is_refused_at_once(tmp_path):
    pytest.importorskip('ray')
    with pytest.raises(ConfigError, match=r"address='127.0.0.1:9': no Ray cluster can be reached \(.*refused\)"):
        with RayPool(RayOptions('127.0.0.1:9'), str(tmp_path)):
            pass


def test_a_node_that_does_not_share_the_disk_says_so(tmp_path):
    mark = tmp_path / 'work' / 'mark'
    folder = str(tmp_path)
    assert f"does not see '{mark.parent}'" in _problem(folder, str(mark), 'this one', _versions())
    mark.parent.mkdir()
    assert f"has another folder at '{mark.parent}'" in _problem(folder, str(mark), 'this one', _versions())
    mark.write_text('another one')
    assert f"has another folder at '{mark.parent}'" in _problem(folder, str(mark), 'this one', _versions())
    mark.write_text('this one')
    assert _problem(folder, str(mark), 'this one', _versions()) is None
    assert f"does not see '{folder}/code'" in _problem(f'{folder}/code', str(mark), 'this one', _versions())
    assert 'has torch ' in _problem(folder, str(mark), 'this one', {'torch': '1.0'})
