"""distpro.Distillation with a process of other networks whose weights are too high, in a plain training loop."""
import copy
import math
import warnings

import processes
import pytest
import torch
import torch.nn.functional as functional
from toys import network

import distpro
from distpro.processes import mean_of_processes

STEPS = 100


def distillation(transfer):
    """A pair, and a process of other networks (or of these) with weights with which this student diverges."""
    torch.manual_seed(0)
    student, teacher, example = network(), network(8), torch.randn(2, 3, 16, 16)
    names = ['a>x:pointwise', 'b>y:pointwise', 'logits>logits:kl']
    if not transfer:
        names = distpro.Distillation(student, teacher, example).grid.names
    weights = [[1e3] * len(names)] * 2
    process = distpro.DistillationProcess(names, distpro.Weighting('absolute', unit='variance'), [0, 1], weights)
    return distpro.Distillation(student, teacher, example, process=process, transfer=transfer)


def train(kd):
    """The total weight and the student at every step, and the warnings."""
    optimizer = torch.optim.SGD([*kd.student.parameters(), *kd.parameters()], lr=0.1, momentum=0.9)
    images, labels, totals, students = torch.randn(8, 3, 16, 16), torch.arange(8) % 4, [], []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        for step in range(STEPS):
            students.append(copy.deepcopy(kd.student.state_dict()))
            out = kd(images, progress=step / (STEPS - 1))
            totals.append(float(kd.grid.weights().sum()))
            loss = functional.cross_entropy(out.logits, labels)
            optimizer.zero_grad()
            (loss + out.loss).backward()
            optimizer.step()
            kd.control_level(loss, optimizer)
    return totals, students, [str(warning.message) for warning in said if 'starts again' in str(warning.message)]


def test_the_student_starts_again_with_lower_weights():
    kd = distillation(transfer=True)
    totals, students, said = train(kd)
    starts = [step for step in range(1, STEPS) if totals[step] < totals[step - 1]]
    assert len(starts) == len(said) > 0 and 'multiplied by 0.25 from here on' in said[0]
    assert totals[-1] == pytest.approx(totals[0] / 4**len(starts)) and kd.level.factor == 4.0**-len(starts)
    for step in starts:
        assert all(torch.equal(value, students[0][name]) for name, value in students[step].items())


def test_a_process_of_this_pair_is_left_alone():
    kd = distillation(transfer=False)
    totals, _, said = train(kd)
    assert kd.level is None and not said and len(set(totals)) == 1


def test_features_end_if_the_number_of_steps_is_known():
    torch.manual_seed(0)
    student, teacher, images = network(), network(8), torch.randn(4, 3, 16, 16)
    options = dict(process='general', connections='nearest_depth')
    known, unknown = (distpro.Distillation(student, teacher, images[:2], steps=steps, **options) for steps in (1000, None))
    names = [name for name in known.grid.names if name.startswith('logits>')]
    first = known.grid.pathways[0]
    assert first.receiver.name == known.grid.layer_names['receivers'][0]
    assert set(unknown(images, progress=0.4).pathways) - set(known(images, progress=0.4).pathways) == {first.name}
    assert list(known(images, progress=0.7).pathways) == names
    assert len(unknown(images, progress=0.7).pathways) > len(names)


def test_a_library_process_is_controlled_though_the_layers_have_the_same_names():
    torch.manual_seed(0)
    student, teacher, example = network(), network(8), torch.randn(2, 3, 16, 16)
    names = distpro.Distillation(student, teacher, example).grid.names
    process = distpro.DistillationProcess(names, distpro.Weighting('absolute'), [0, 1], [[1.0] * len(names)] * 2)
    kd = [distpro.Distillation(student, teacher, example, process=process, transfer=transfer) for transfer in (True, False)]
    assert kd[0].level is not None and kd[1].level is None
    assert kd[0].process.weights.tolist() == kd[1].process.weights.tolist()


def _train_in_process(rank, folder):
    """The student's cross-entropy is worse than guessing in one of two processes, and in the mean."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    torch.manual_seed(0)
    student, teacher, example = network(), network(8), torch.randn(2, 3, 16, 16)
    kd = distpro.Distillation(student, teacher, example, process='general')
    model = torch.nn.parallel.DistributedDataParallel(kd.with_student(), find_unused_parameters=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    images = torch.randn(6, 3, 16, 16) * (1 + rank)
    for step in range(STEPS // 2):
        out = model(images, progress=0.3 + step / (2 * STEPS))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        kd.control_level(torch.tensor((0.9, 1.2)[rank] * math.log(5)), optimizer)  # of guessing
    given = torch.tensor([float(rank), 4.0])
    assert mean_of_processes(given).tolist() == [0.5, 4.0] and given[0] == rank
    torch.save([kd.level.factor, kd.grid.variances, [p.detach() for p in student.parameters()]], f'{folder}/{rank}.pth')
    torch.distributed.barrier()  # gloo may hang if a process leaves while the other one still communicates
    torch.distributed.destroy_process_group()


def test_processes_measure_and_start_again_together(tmp_path):
    torch.multiprocessing.start_processes(_train_in_process, (str(tmp_path), ), nprocs=2, start_method=processes.method())
    one, other = (torch.load(tmp_path / f'{rank}.pth') for rank in range(2))
    assert one[0] == other[0] == 0.25
    assert torch.equal(one[1], other[1]) and (one[1] > 0).any()
    assert all(map(torch.equal, one[2], other[2]))
