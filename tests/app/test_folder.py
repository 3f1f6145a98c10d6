"""``distpro distill``: from a folder of images to the files to deploy, as a user types it."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from folder_runs import COLOURS, PAIR, ROOT, draw

from distpro_app.images import read_image
from distpro_app.settings import FolderSettings

FAST = ['--formats', 'none', '--epochs', 2]
WITHOUT_PACKAGE = 'import sys; sys.modules.update({name: None for name in ("distpro", "distpro_app", "distpro_mm")}); '


def weights(path):
    return torch.load(path, weights_only=True)


def same(path, other):
    first, second = weights(path), weights(other)
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def bare(code, folder):
    """Run code in a fresh interpreter in which this package cannot be imported."""
    done = subprocess.run([sys.executable, '-c', WITHOUT_PACKAGE + code], text=True, capture_output=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_from_a_folder_to_files_that_need_no_package(photos, command, tmp_path):
    done = command('distill', *PAIR, '--epochs', 5, '--out', 'run')
    assert done.returncode == 0, done.stderr
    assert '24 training images, 6 held out, 3 classes' in done.stdout and 'features and logits' in done.stdout
    summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
    assert summary['student']['parameters'] == 3 * 4 * 9 + 4 * 8 * 9 + 2 * 4 + 2 * 8 + 8 * 3 + 3
    assert {'accuracy', 'megabytes', 'latency_ms'} < set(summary['student']) and summary['teacher']['accuracy'] > 0.4
    described = json.loads((tmp_path / 'run' / 'student.json').read_text())
    assert described['classes'] == sorted(COLOURS) and described['input']['shape'] == ['batch', 3, 16, 16]
    # An image prepared by what student.json says alone.
    given = described['input']
    held_out = (tmp_path / 'run' / 'held_out.txt').read_text()
    read = [read_image(str(photos / line))[None] * given['scale'] for line in held_out.split()]
    images = torch.cat([F.interpolate(image, (16, 19), mode='bilinear', antialias=True)[..., 1:17] for image in read])
    images = (images - torch.tensor(given['mean'])[:, None, None]) / torch.tensor(given['std'])[:, None, None]
    np.save(tmp_path / 'images.npy', images.numpy())
    by_onnx = json.loads(bare(
        'import json, numpy, onnxruntime; sys.modules["torch"] = None; images = numpy.load("images.npy"); '
        'session = onnxruntime.InferenceSession("run/student.onnx"); meta = session.get_modelmeta().custom_metadata_map; '
        'run = lambda batch: session.run(None, {"images": batch})[0].tolist(); print(json.dumps('
        '[json.loads(meta["classes"]), json.loads(meta["input"]), run(images), run(images[:1])]))', tmp_path))
    by_torch = json.loads(bare(
        'import json, numpy, torch, tiny_nets; images = torch.from_numpy(numpy.load("images.npy")); '
        'network = tiny_nets.small(3).eval(); network.load_state_dict(torch.load("run/student.pth")); '
        'program = torch.export.load("run/student.pt2").module(); '
        'print(json.dumps([network(images).tolist(), program(images).tolist(), program(images[:1]).tolist()]))', tmp_path))
    assert by_onnx[:2] == [described['classes'], given]
    for found in (by_onnx[2], by_torch[1]):
        assert np.allclose(found, by_torch[0], atol=1e-4)
    for found in (by_onnx[3], by_torch[2]):
        assert np.allclose(found, by_torch[0][:1], atol=1e-4)
    # The settings are a file to run again; the same settings give the same student.
    again = command('distill', '--settings', 'run/settings.json', '--out', 'again', '--formats', 'none')
    assert again.returncode == 0 and same(tmp_path / 'run' / 'student.pth', tmp_path / 'again' / 'student.pth')
    os.remove(tmp_path / 'run' / 'student.onnx')
    done = command('export', 'run', '--formats', 'pt2', '--out', 'exported')
    assert done.returncode == 0 and same(tmp_path / 'run' / 'student.pth', tmp_path / 'exported' / 'student.pth')
    assert sorted(os.listdir(tmp_path / 'exported')) == ['student.json', 'student.pt2', 'student.pth']


@pytest.mark.long
def test_a_run_that_is_killed_twice_continues_bit_for_bit(photos, command, tmp_path):
    options = [*PAIR, '--epochs', 20, '--train-teacher', 20, '--formats', 'none']
    assert command('distill', *options, '--out', 'uninterrupted').returncode == 0
    arguments = [str(argument) for argument in ('distill', *options, '--out', 'killed', '--resume')]
    for after in ('teacher, epoch 4/20', 'student, epoch 4/20'):
        with subprocess.Popen([sys.executable, '-m', 'distpro_app', *arguments], cwd=tmp_path, text=True,
                              stdout=subprocess.PIPE, env={**os.environ, 'PYTHONPATH': str(ROOT)}) as process:
            printed = []
            for line in process.stdout:
                printed.append(line)
                if line.startswith(after):
                    process.kill()
        assert process.returncode == -9 and not (tmp_path / 'killed' / 'student.pth').exists()
    assert any(line.startswith('teacher, continues after epoch ') for line in printed)
    done = command('distill', '--settings', 'killed/settings.json', '--resume')
    assert done.returncode == 0 and 'student, continues after epoch ' in done.stdout
    assert same(tmp_path / 'killed' / 'student.pth', tmp_path / 'uninterrupted' / 'student.pth')


def test_several_teachers_are_adapted_and_listed_each(photos, command, tmp_path):
    two = [*PAIR, '--teacher', 'module:tiny_nets.small', *FAST]
    done = command('distill', *two, '--out', 'two')
    assert done.returncode == 0, done.stderr
    assert 'tiny_nets_large: the teacher is right on' in done.stdout
    assert 'the teachers teach by their features and logits' in done.stdout
    summary = json.loads((tmp_path / 'two' / 'summary.json').read_text())
    assert list(summary['teachers']) == ['tiny_nets_large', 'tiny_nets_small'] and 'teacher' not in summary
    assert all({'accuracy', 'parameters', 'latency_ms'} < set(found) for found in summary['teachers'].values())
    columns = ['tiny_nets_large', 'tiny_nets_small', 'student']
    header = next(line for line in done.stdout.splitlines() if line.split() == columns)
    rows = [line for line in done.stdout.splitlines() if line.startswith(('parameters', 'held-out images right'))]
    assert len(rows) == 2 and all(len(row) == len(header) for row in rows)
    names = FolderSettings(**json.loads((tmp_path / 'two' / 'settings.json').read_text())).teacher
    assert names == ('module:tiny_nets.large', 'module:tiny_nets.small')
    assert (tmp_path / 'two' / 'teacher_checkpoint_tiny_nets_small.pth').exists()
    state = torch.load(tmp_path / 'two' / 'checkpoint.pth', weights_only=False)
    os.remove(tmp_path / 'two' / 'student.pth')
    assert command('distill', '--settings', 'two/settings.json', '--resume').returncode == 0
    assert command('distill', *PAIR, *FAST, '--out', 'one').returncode == 0
    assert not same(tmp_path / 'one' / 'student.pth', tmp_path / 'two' / 'student.pth') and state['epochs'] == 2
    refused = command('distill', *two, '--teacher-ckpt', 'two/student.pth', '--out', 'three')
    assert refused.returncode and 'is for one teacher, and there are 2' in refused.stderr


def test_images_without_labels_teach_by_features_and_logits(photos, command, tmp_path):
    options = [*PAIR, *FAST, '--no-labels', '--train-teacher', 0, '--epochs', 20]
    done = command('distill', *options, '--out', 'logits')
    assert done.returncode == 0 and 'no classes' in done.stdout and 'features and logits' in done.stdout, done.stderr
    distances = json.loads((tmp_path / 'logits' / 'summary.json').read_text())['distance_to_teacher']
    assert set(distances['after']) == {'features', 'kl', 'same_class'}
    assert distances['after']['features'] < distances['before']['features']
    assert weights(tmp_path / 'logits' / 'student.pth')['4.weight'].shape == (7, 8)  # as many logits as the teacher's
    done = command('distill', *options, '--out', 'features', '--teacher-head', 'none')
    assert done.returncode == 0 and 'the teacher teaches by its features alone' in done.stdout
    assert '4.weight' not in weights(tmp_path / 'features' / 'student.pth')
    distances = json.loads((tmp_path / 'features' / 'summary.json').read_text())['distance_to_teacher']
    assert set(distances['after']) == {'features'}


def test_a_checkpoint_of_other_classes_gets_a_new_classifier_and_a_guessing_teacher_warns(photos, command, tmp_path):
    sys.path.append(str(tmp_path))
    import tiny_nets
    torch.save(tiny_nets.large(11).state_dict(), tmp_path / 'other.pth')
    options = [*PAIR, *FAST, '--teacher-ckpt', 'other.pth', '--train-teacher', 0]
    done = command('distill', *options, '--out', 'probe')
    assert "the teacher's classifier is new: trained on its frozen features (linear probe)" in done.stdout
    guessing = tiny_nets.large(3)
    torch.nn.init.zeros_(guessing[4].weight)
    torch.save(guessing.state_dict(), tmp_path / 'guessing.pth')
    done = command('distill', *options, '--teacher-ckpt', 'guessing.pth', '--out', 'guessing')
    assert done.returncode == 0 and 'linear probe' not in done.stdout
    assert 'warning: the teacher is right on 33.3 % of the held-out images, and guessing' in done.stdout
    assert done.stdout.index('warning: the teacher') < done.stdout.index('student, epoch')


def test_methods_differ_and_the_student_alone_needs_no_weights(photos, command, tmp_path):
    for method in ('pathways', 'kd', 'student'):
        assert command('distill', *PAIR, *FAST, '--method', method, '--out', method).returncode == 0
    for one, other in (('pathways', 'kd'), ('kd', 'student'), ('pathways', 'student')):
        assert not same(tmp_path / one / 'student.pth', tmp_path / other / 'student.pth')
    assert 'teacher' not in json.loads((tmp_path / 'student' / 'summary.json').read_text())


def test_unreadable_images_are_named_or_left_out(photos, command, tmp_path):
    (photos / 'red' / 'broken.png').write_bytes((photos / 'red' / '0.png').read_bytes()[:200])
    (photos / 'red' / 'empty.jpg').write_bytes(b'')
    done = command('distill', *PAIR, *FAST)
    assert done.returncode == 1 and 'error: data: 2 images cannot be read: ' in done.stderr
    assert 'photos/red/broken.png' in done.stderr and 'photos/red/empty.jpg' in done.stderr
    assert not (tmp_path / 'distilled').exists()
    done = command('distill', *PAIR, *FAST, '--skip-unreadable')
    assert done.returncode == 0 and 'left out: 2 images cannot be read' in done.stdout


@pytest.mark.parametrize('options, message', [
    (['--data', 'none'], "data='none': there is no such folder"),
    (['--data', 'photos/red'], "'photos/red' has 1 class folders, and 2 or more are needed"),
    (['--teacher', 'timm:resnet18', '--teacher-weights', 'random', '--train-teacher', 0], 'a teacher of random weights has'),
    (['--student', 'module:tiny_nets.smal'], "has no network 'smal'"),
    (['--student', 'module:tiny_nets.words'], 'the function cannot be called with num_classes'),
    (['--student', 'module:no_nets.small'], "'no_nets' cannot be imported"),
    (['--student', 'module:tiny_nets.picky'], 'student: its forward fails for RGB images of 16 x 16 pixels'),
    (['--teacher-ckpt', 'none.pth'], "teacher_ckpt='none.pth': there is no such file"),
    (['--process', 'genral'], "process: there is no process file 'genral'"),
    (['--lr', 0], 'lr=0.0 must be a number above 0'),
    (['--lr', 1e30, '--method', 'student'], 'lr=1e+30: the training loss is '),
    (['--formats', 'tflite'], "formats='tflite': 'tflite' is not one of pt2, onnx, none"),
    (['--teacher-head', 'none'], "teacher_head='none': a teacher without classifier cannot be trained"),
    (['--no-labels'], 'train_teacher=4 needs labels'),
    (['--held-out', 1], 'held_out=1.0 must be a number above 0 and below 1'),
])
def test_wrong_input_is_one_line(photos, command, options, message):
    done = command('distill', *PAIR, *FAST, *options)
    assert done.returncode == 1 and message in done.stderr and done.stderr.startswith('error: ')
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_folder_that_cannot_be_made_is_named(photos, command, tmp_path):
    (tmp_path / 'file').write_text('')
    done = command('distill', *PAIR, *FAST, '--out', 'file')
    assert done.returncode == 1
    assert done.stderr == "error: out='file' cannot be made a folder (File exists): pass another --out\n"


def test_a_run_is_neither_overwritten_nor_continued_with_other_settings(photos, command, tmp_path):
    assert command('distill', *PAIR, *FAST).returncode == 0
    done = command('distill', *PAIR, *FAST)
    assert done.returncode == 1 and "out='distilled' has a run: continue it with --resume" in done.stderr
    done = command('distill', *PAIR, *FAST, '--resume', '--seed', 1)
    assert done.returncode == 1 and "seed=1: the run in 'distilled' has 0" in done.stderr
    draw(COLOURS['red'], 30, np.random.RandomState(1)).save(photos / 'red' / 'new.png')
    done = command('distill', *PAIR, *FAST, '--resume')
    assert done.returncode == 1 and 'is of other settings or images' in done.stderr
    (tmp_path / 'mine.json').write_text(json.dumps(dict(data='photos', epoch=3)))
    done = command('distill', '--settings', 'mine.json')
    assert done.returncode == 1 and "has 'epoch', which is no setting; nearest: epochs" in done.stderr


def test_every_setting_is_an_option(command):
    text = command('distill', '--help').stdout
    names = [f'--{name.replace("_", "-")}' for name in FolderSettings.__dataclass_fields__]
    assert len(names) > 25 and [name for name in names if name not in text] == []


def test_a_split_folder_is_taken_as_it_is(photos, command, tmp_path):
    val = tmp_path / 'split' / 'val'
    photos.rename(tmp_path / 'split_train')
    (tmp_path / 'split').mkdir()
    (tmp_path / 'split_train').rename(tmp_path / 'split' / 'train')
    for name in ('green', 'red'):
        (val / name).mkdir(parents=True)
        draw(COLOURS[name], 24, np.random.RandomState(2)).save(val / name / '0.png')
    done = command('distill', *PAIR, *FAST, '--data', 'split')
    assert done.returncode == 0 and '30 training images, 2 held out, 3 classes' in done.stdout
    assert (tmp_path / 'distilled' / 'held_out.txt').read_text().split() == ['val/green/0.png', 'val/red/0.png']
    (val / 'yellow').mkdir()
    done = command('distill', *PAIR, *FAST, '--data', 'split', '--out', 'other')
    assert done.returncode == 1 and "val has the class 'yellow', which train does not have" in done.stderr


def test_a_run_in_its_own_data_continues_where_it_was_moved_with_names_of_any_bytes(photos, command, tmp_path, monkeypatch):
    for path in list((photos / 'red').glob('*.png')):
        os.rename(path, bytes(path.parent) + b'/caf\xe9' + path.name.encode())  # latin-1
    arguments = ['distill', *PAIR[2:], *FAST, '--formats', 'none', '--data', photos, '--out', photos / 'distilled']
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert b'caf\xe9' in (photos / 'distilled' / 'held_out.txt').read_bytes()
    assert command(*arguments, '--resume').returncode == 0, 'its results are no class'
    (photos / 'distilled').rename(tmp_path / 'moved')
    done = command('distill', '--settings', 'moved/settings.json', '--resume')
    assert done.returncode == 0 and 'moved/student.pth' in done.stdout and 'no run to continue' not in done.stdout
    assert 'it starts now' in command(*arguments, '--resume').stdout
