"""Plain loops that do something unusual: they continue, or say what is lost."""
import math
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from test_plain_search import search
from toys import network

import distpro
from distpro.process import fit_length

MANUAL = dict(progress=[0, 1], weights=dict(features=[1, 1], logits=[1, 1]))


def images(count=4):
    return torch.randn(count, 3, 16, 16)


def without_head():
    return network()[:-2]


def test_features_alone_teach_until_the_end_of_a_long_training():
    kd = distpro.Distillation(without_head(), without_head(), images(), process='general', connections='nearest_depth',
                              logits={}, steps=2000, get_logits=lambda output: output)
    for progress in (0.5, 0.7, 1.0):
        loss = kd(images(), progress=progress).loss
        assert loss > 0
        loss.backward()
    process = distpro.process.load_process('general')
    assert np.all(fit_length(process, 2000).weights_at([1])[0][:-1] == 0), 'with logits, the features end'


def test_a_step_without_pathways_has_a_gradient_of_zero():
    student = network()
    kd = distpro.Distillation(student, network(8), images(), process=dict(progress=[0, 1], weights=[0, 1]))
    out = kd(images(), progress=0.0)
    out.loss.backward()
    assert out.loss == 0 and not any(weight.grad.any() for weight in student.parameters())


def test_one_logit_has_no_softmax_and_two_classes():
    torch.manual_seed(0)
    student, teacher, x = network(classes=1), network(8, classes=1), images(8)
    with pytest.warns(UserWarning, match='there is one logit, of which a softmax is always 1, so only features'):
        kd = distpro.Distillation(student, teacher, x, process='general', connections='nearest_depth')
    optimizer = torch.optim.SGD([*student.parameters(), *kd.parameters()], lr=0.001)
    for step in range(100):  # a cross-entropy a little below that of guessing, log 2, is no reason to start again
        kd(x, progress=step / 99)
        assert kd.control_level(torch.tensor(0.95 * math.log(2)), optimizer) is False
    assert kd.level.factor == 1


def test_a_loop_is_told_that_the_student_has_started_again():
    kd = distpro.Distillation(network(), network(8), images(), process='general', connections='nearest_depth')
    optimizer = torch.optim.SGD([*kd.student.parameters(), *kd.parameters()], lr=0.001)
    told = []
    with pytest.warns(UserWarning, match='starts again'):
        for step in range(100):
            kd(images(), progress=step / 99)
            told.append(kd.control_level(torch.tensor(9.0), optimizer))
    assert told.count(True) == 3 and kd.level.factor == 4.0**-3


def test_an_optimiser_without_the_transforms_is_named():
    kd = distpro.Distillation(network(), network(8), images(), process='general', connections='nearest_depth')
    kd(images(), progress=0.0)
    with pytest.warns(UserWarning, match=r'no optimizer has a parameter of the .*give it \[\*student.parameters'):
        kd.control_level(torch.tensor(1.0), torch.optim.SGD(kd.student.parameters(), lr=0.1))


def test_a_broken_first_batch_is_forgotten():
    torch.manual_seed(0)
    kd, other = (distpro.Distillation(network(), network(8), images(), process=MANUAL) for _ in range(2))
    other.load_state_dict(kd.state_dict())
    other.student.load_state_dict(kd.student.state_dict())
    other.teacher.load_state_dict(kd.teacher.state_dict())
    broken, x = images(), images()
    broken[0] = float('nan')
    assert kd(broken, progress=0.0).loss.isnan()
    kd.student.load_state_dict(other.student.state_dict())  # the running statistics are NaN too
    torch.testing.assert_close(kd(x, progress=0.0).loss, other(x, progress=0.0).loss)
    assert kd.teachers.fast[''].ways == other.teachers.fast[''].ways
    assert kd.teachers.fast['']._accepted == other.teachers.fast['']._accepted


@pytest.mark.parametrize('after', [0, 30])
def test_a_teacher_that_changes_through_data_is_compared_as_it_is(after):
    torch.manual_seed(0)
    student, teacher, x = network(), network(8), images()
    kd = distpro.Distillation(student, teacher, x, fast_teacher='exact')
    with pytest.warns(UserWarning, match="fast_teacher: the teacher's weights change through .data"):
        for step in range(120):
            out = kd(x)
            for weight in teacher.parameters() if step >= after else ():
                weight.data.mul_(0.9)
    out = kd(x)
    expected = distpro.Distillation(student, teacher, x, fast_teacher=False)
    expected.load_state_dict(kd.state_dict())
    torch.testing.assert_close(out.loss, expected(x).loss)


def test_an_average_without_data_is_followed_without_a_warning(recwarn):
    teacher, x = network(8), images()
    kd = distpro.Distillation(network(), teacher, x, fast_teacher='exact')
    for _ in range(5):
        kd(x)
        with torch.no_grad():
            for weight in teacher.parameters():
                weight.mul_(0.9)
    assert kd.teachers.fast[''].ways == ['exact'] and not [w for w in recwarn if 'fast_teacher' in str(w.message)]


def test_the_teacher_moves_with_the_student():
    kd = distpro.Distillation(network(), network(8), images(), process=MANUAL)
    model = kd.with_student().double()
    out = model(images().double(), progress=0.5)
    assert out.loss.dtype == torch.float64 and next(kd.teacher.parameters()).dtype == torch.float64
    out.loss.backward()


class Tokens(torch.nn.Module):
    """A small transformer with a class token, which is the same for all images before the first block."""

    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 8, 4, 4)
        self.token = torch.nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True) for _ in range(4))
        self.head = torch.nn.Linear(8, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


@pytest.mark.parametrize('build', [network, Tokens])
def test_equal_images_are_an_example(build):
    kd = distpro.Distillation(build(), build(), torch.zeros(2, 3, 16, 16))
    assert kd.grid.names == distpro.Distillation(build(), build(), images()).grid.names


def test_a_compiled_student_may_have_run_before():
    student = network()
    student.compile(backend='aot_eager')
    student(images())
    kd = distpro.Distillation(student, network(8), images())
    assert kd.grid.names == distpro.Distillation(network(), network(8), images()).grid.names


class Loader:
    """Claims another number of batches than it gives."""

    def __init__(self, batches, claims):
        self.batches, self.claims, self.given = batches, claims, 0

    def __len__(self):
        return self.claims

    def __iter__(self):
        for batch in self.batches:
            self.given += 1
            yield batch


def test_a_loader_that_gives_fewer_batches_than_its_length_is_refused(data, teacher):
    with pytest.raises(distpro.ArgumentError, match='train_loader gives 5 batches, and its length is 7: a search needs'):
        search((Loader(list(data[0]), 7), data[1]), teacher, rounds=0)


def test_a_loader_that_gives_more_is_cut_at_its_length(data, teacher):
    batches = list(data[0])
    cut, whole = (search((loader, data[1]), teacher, rounds=0, max_divisions=1)
                  for loader in (Loader(batches, 3), Loader(batches[:3], 3)))
    assert cut.origin['trials'] == whole.origin['trials']


def test_batch_norms_that_are_frozen_stay_so_in_a_search(data, teacher):
    student, modes = network(), []
    frozen = next(module for module in student.modules() if isinstance(module, torch.nn.BatchNorm2d))
    frozen.eval()

    def criterion(logits, labels):
        modes.append((student.training, frozen.training))
        return functional.cross_entropy(logits, labels)

    search(data, teacher, student, rounds=0, max_divisions=1, criterion=criterion)
    assert set(modes[1:]) == {(True, False)}  # the first is a check


def test_held_out_batches_are_not_kept(data, teacher):
    alive, most = weakref.WeakSet(), []

    class Fresh:
        def __iter__(self):
            for _ in range(20):
                batch = torch.randn(4, 3, 16, 16)
                alive.add(batch)
                most.append(len(alive))
                yield batch, torch.arange(4)

    search((data[0], Fresh()), teacher, rounds=0, max_divisions=1)
    assert max(most) <= 3


@pytest.mark.parametrize('batch, what', [(([1], torch.zeros(1)), 'the images'), ((torch.zeros(1), [1]), 'the labels')])
def test_batches_of_lists_are_refused(teacher, data, batch, what):
    with pytest.raises(distpro.ArgumentError, match=f'train_loader: {what} of a batch=.* must be a tensor'):
        search(([batch], data[1]), teacher)


def test_a_process_with_numbers_of_numpy_is_saved(tmp_path):
    process = distpro.process.load_process('general')
    process.origin['mine'] = [np.float32(0.5), np.arange(2), torch.tensor(3)]
    process.save(tmp_path / 'process.json')
    assert distpro.process.load_process(tmp_path / 'process.json').origin['mine'] == [0.5, [0, 1], 3]
    process.origin['mine'] = images
    with pytest.raises(distpro.ProcessError, match='cannot be written: function .* is neither a number, a text'):
        process.save(tmp_path / 'other.json')
