import json

import torch

import carry_runs


def write(folder, **result):
    folder.mkdir(parents=True)
    (folder / 'result.json').write_text(json.dumps(result))


def test_runs_processes_and_the_teacher_come_back_and_other_stages_do_not(tmp_path):
    work_dir = tmp_path / 'work'
    write(work_dir / 'teacher', name='teacher', epochs=2, after=None, key='a')
    torch.save(dict(state_dict=dict(weight=torch.ones(2)), optimizer={}), work_dir / 'teacher' / 'epoch_2.pth')
    write(work_dir / 'search' / 'seed_0', name='search', epochs=1, after=None, key='b')
    (work_dir / 'search' / 'seed_0' / 'process.json').write_text('{"alpha": [1]}')
    write(work_dir / 'first' / 'seed_0', name='first', epochs=1, after=None, key='c')
    write(work_dir / 'distpro' / 'seed_0', name='distpro', epochs=1, after='search', key='d')
    write(work_dir / 'ab' / 'seed_0', name='ab', epochs=1, after='first', key='e')
    (work_dir / 'kd').mkdir()  # not finished
    assert carry_runs.pack(work_dir, tmp_path / 'kept') == 4
    assert carry_runs.unpack(tmp_path / 'kept', tmp_path / 'there') == 4
    there = tmp_path / 'there'
    assert sorted(str(path.parent.relative_to(there)) for path in there.glob('**/result.json')) == [
        'ab/seed_0', 'distpro/seed_0', 'search/seed_0', 'teacher']
    assert json.loads((there / 'ab' / 'seed_0' / 'result.json').read_text())['key'] == 'e'
    assert (there / 'search' / 'seed_0' / 'process.json').read_text() == '{"alpha": [1]}'
    assert torch.equal(torch.load(there / 'teacher' / 'epoch_2.pth')['state_dict']['weight'], torch.ones(2))
