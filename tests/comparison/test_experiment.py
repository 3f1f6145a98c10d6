"""A comparison from start to end: repeated trainings, choice of settings, and failures."""
import json
import math
import os
import shutil

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS

from distpro.files import write_json
from distpro.process import DistillationProcess
from distpro_mm.comparison import Benchmark, JobMaker, scheduler, training

WEIGHT = 'model.distiller.distill_losses.loss_kl.loss_weight'
KD_WEIGHT = 'model.distiller.weighting.kd_weight'
# Added after the last method.
UNIFORM = ('),\n    reference',
           ", uniform=dict(ablation_of='distpro', options={'custom_hooks.0.ablation': 'uniform'})),\n    reference")
ONE_SEED = ('seeds=[0, 1]', 'seeds=[0]')


def weights(folder, seed):
    return torch.load(folder.path / 'work' / 'kd' / f'seed_{seed}' / 'epoch_2.pth')['state_dict']


def test_trains_all_then_only_what_has_changed(done):
    first = done.run()
    assert [(r['name'], r['seed']) for r in first.results] == [
        ('teacher', 0), ('student', 0), ('kd', 0), ('search', 0), ('distpro', 0), ('student', 1), ('kd', 1), ('distpro', 1)]
    assert all(0 <= r['accuracy'] <= 100 and r['iterations'] > 0 and r['compute'] > 0 for r in first.results)
    assert first.failed == 0 and first.choices == [] and first.messages[-1] == '8 of 8 trainings were done before'
    assert len(DistillationProcess.load('work/search/seed_0/process.json')) == 8
    before = [weights(done, seed) for seed in (0, 1)]
    assert not torch.equal(*(state['architecture.head.fc.weight'] for state in before))
    # The search is changed and one result is damaged: only these and their dependents are trained again.
    done.append('search', 'randomness = dict(seed=3)\noptim_wrapper = dict(optimizer=dict(lr=0.01))')
    damaged = done.path / 'work' / 'kd' / 'seed_1' / 'result.json'
    damaged.write_text(damaged.read_text()[:20])
    messages = done.run().messages
    assert messages[1] == '4 of 8 trainings were done before'  # the first is about cores and threads
    assert sorted(line.split('] ')[1].split(':')[0] for line in messages[2:]) == [
        'distpro, seed 0', 'distpro, seed 1', 'kd, seed 1', 'search, seed 0']
    again = weights(done, 1)
    assert all(torch.equal(again[name], before[1][name]) for name in again), 'a second run gives the same figures'


def test_all_students_of_a_seed_start_alike(trained):
    for seed in (0, 1):
        student = trained.initial[f'student/seed_{seed}']
        for other in ('kd', 'distpro', 'simkd'):
            initial = trained.initial[f'{other}/seed_{seed}']
            assert all(torch.equal(initial[name], student[name]) for name in student if name.startswith('backbone'))
            own_head = other == 'simkd'  # the teacher's
            assert torch.equal(initial['head.fc.weight'], student['head.fc.weight']) == (not own_head)
    heads = [trained.initial[f'kd/seed_{seed}']['head.fc.weight'] for seed in (0, 1)]
    assert not torch.equal(*heads)


@pytest.mark.long
def test_settings_are_chosen_on_held_out_training_images(done):
    path = done.write(
        ("kd='kd.py'", f"kd=dict(config='kd.py', grid={{'{WEIGHT}': [0.9, 1e9]}})"),
        ("'stage://search/process'}", f"'stage://search/process'}}, grid={{'{KD_WEIGHT}': [1.0, 2.0]}}"),
        ("'search.py', seeds=[0]", "'search.py', seeds=[5]"), UNIFORM,
        ('seeds=[0, 1]', "seeds=[0], tuning=dict(ratio=0.3, seeds=[7], widen=0), "
         "extended_to=dict(compute_of='distpro', best_of=['uniform'])"))
    ran = done.run(path)
    assert ran.failed == 0
    kd = [choice for choice in ran.choices if choice['method'] == 'kd']
    assert [(c['settings'], c['chosen']) for c in kd] == [({WEIGHT: 0.9}, True), ({WEIGHT: 1e9}, False)]
    assert kd[0]['accuracy'] > kd[1]['accuracy']
    reported = {r['name']: r for r in ran.results}
    assert reported['kd']['settings'] == {WEIGHT: 0.9} and not any(r['tuning'] for r in ran.results)
    # The search uses the settings chosen for its distillation. Its ablation uses both, also in the extended run.
    weight = reported['distpro']['settings'][KD_WEIGHT]
    assert reported['uniform']['settings'] == reported['uniform_longer']['settings'] == {KD_WEIGHT: weight}
    assert [r['name'] for r in ran.results].count('search') == 1
    process = DistillationProcess.load('work/search_for_distpro/seed_5/process.json')
    assert process.weighting.kd_weight == weight
    assert sum('trial of kd_weight' in line for line in ran.messages) == 2
    # No trial uses test images, and none trains on its held-out images.
    maker = JobMaker(Benchmark(path, 'work'))
    cfg = maker.trial(maker.benchmark.methods['kd'], {}, 7).config
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        train, val = (DATASETS.build(cfg[key].dataset) for key in ('train_dataloader', 'val_dataloader'))
    assert (len(train), len(val)) == (70, 30) and 'test' not in str(cfg.val_dataloader.dataset.dataset.dataset.split)
    assert not {image.numpy().tobytes() for image in train.images} & {image.numpy().tobytes() for image in val.images}


def test_a_wider_grid_reuses_its_finished_trials(done):
    def trials_of(values):
        grid = ("kd='kd.py'", f"kd=dict(config='kd.py', grid={{'{WEIGHT}': {values}}})")
        ran = done.run(done.write(grid, ('seeds=[0, 1]', 'seeds=[0], tuning=dict(seeds=[7], widen=0)')))
        assert ran.failed == 0
        return [line for line in ran.messages if 'trial of' in line]

    assert len(trials_of([0.9, 2.0])) == 2
    assert len(trials_of([0.1, 0.9, 2.0])) == 1


@pytest.fixture
def made_up(monkeypatch):
    """made_up(accuracy): trials are not trained; that function of loss weight and learning rate is their accuracy."""
    def replace(accuracy):
        def train(job):
            if not job.tuning:
                return training.train_job(job)
            cfg = job.config
            value = accuracy(cfg.model.distiller.distill_losses.loss_kl.loss_weight, cfg.optim_wrapper.optimizer.lr)
            result = dict(name=job.name, seed=job.seed, budget=job.budget, tuning=True, accuracy=value, seconds=1,
                          key=job.key)
            os.makedirs(job.work_dir, exist_ok=True)
            write_json(os.path.join(job.work_dir, training.RESULT), result)
            return result

        monkeypatch.setattr(scheduler, 'train_job', train)

    return replace


def test_a_best_value_at_the_edge_is_followed_and_other_keys_are_tuned_at_it(done, made_up):
    made_up(lambda weight, lr: 50 - abs(math.log(weight / 0.1)) - abs(math.log(lr / 0.5)))
    lr = 'optim_wrapper.optimizer.lr'
    grid = f"grid={{'{WEIGHT}': [0.9, 2.7], '{lr}': dict(factors=[1, 3])}}"
    path = done.write(("kd='kd.py'", f"kd=dict(config='kd.py', {grid})"),
                      ('seeds=[0, 1]', 'seeds=[0], tuning=dict(seeds=[7, 8], widen=3)'))
    ran = done.run(path)
    tried = [(choice['settings'], choice['chosen'], choice['note']) for choice in ran.choices]
    assert [settings[WEIGHT] for settings, _, _ in tried[:5]] == pytest.approx([1 / 30, 0.1, 0.3, 0.9, 2.7])
    assert [chosen for _, chosen, _ in tried[:5]] == [False, True, False, False, False]
    assert [note for _, _, note in tried[:5]] == ['added', 'added', 'added', '', '']
    assert [settings[lr] for settings, _, _ in tried[5:]] == pytest.approx([0.05, 0.15, 0.45, 1.35])
    assert all(settings[WEIGHT] == tried[1][0][WEIGHT] for settings, _, _ in tried[5:])
    reported = {result['name']: result for result in ran.results}
    assert reported['kd']['settings'] == tried[7][0] and tried[7][1:] == (True, 'added')
    assert any('kd, trial of loss_weight=0.1, lr=0.45, seed 8' in line for line in ran.messages)
    counts = [line.split(']')[0].strip('[').split('/') for line in ran.messages if line.startswith('[')]
    trials = 2 * (5 + 3)  # of two seeds; the config's own learning rate is not tried again
    assert len(counts) == trials + 1 and counts[-1][0] == counts[-1][1], 'the trials that were added are planned'
    again = done.run(path)
    assert again.choices == ran.choices and not any(line.startswith('[') for line in again.messages)


def test_runs_are_evaluated_several_times_and_the_last_one_counts(done):
    before = {(r['name'], r['seed']): r for r in done.run().results}
    assert all(result['best'] is None for result in before.values())
    path = done.write(('seeds=[0, 1]', 'seeds=[0, 1], evaluations=2'))
    ran = done.run(path)  # another number of evaluations is no other training
    assert not any(line.startswith('[') for line in ran.messages)
    shutil.rmtree(done.path / 'work' / 'kd' / 'seed_0')
    after = {(r['name'], r['seed']): r for r in done.run(path).results}['kd', 0]
    assert after['accuracy'] == before['kd', 0]['accuracy'] and after['best'] >= after['accuracy']


def test_files_from_before_the_comparison_are_listed(done):
    given = done.path / 'given.json'
    given.write_text((done.path / 'work' / 'search' / 'seed_0' / 'process.json').read_text())
    ran = done.run(done.write(('stage://search/process', 'given.json'), ONE_SEED))
    assert ran.failed == 0 and "distpro reads 'given.json', which is from before this comparison" in ran.messages
    assert '3 of 4 trainings were done before' in ran.messages


def test_the_best_rival_gets_the_compute_of_search_and_distillation(done):
    extended_to = "extended_to=dict(compute_of='distpro', best_of=['student', 'kd'])"
    ran = done.run(done.write(('seeds=[0, 1]', f'seeds=[0], {extended_to}')))
    by_name = {r['name']: r for r in ran.results}
    best = max('student', 'kd', key=lambda name: by_name[name]['accuracy'])
    share = (by_name['search']['compute'] + by_name['distpro']['compute']) / by_name[best]['compute']
    longer = by_name[f'{best}_longer']
    assert longer['budget'] == pytest.approx(share, abs=0.01) and longer['epochs'] == max(1, round(2 * longer['budget']))
    assert any(f'{best} is the best rival' in line for line in ran.messages)


def test_a_rival_is_not_trained_for_longer_where_the_compute_of_a_stage_is_unknown(done):
    """As after a search that was interrupted and resumed."""
    done.run(done.write(('seeds=[0, 1]', 'seeds=[0]')))
    file, = done.path.glob('work/search/seed_*/result.json')
    result = json.loads(file.read_text())
    assert result['compute'] > 0
    file.write_text(json.dumps({**result, 'compute': math.nan}))
    extended_to = "extended_to=dict(compute_of='distpro', best_of=['student', 'kd'])"
    ran = done.run(done.write(('seeds=[0, 1]', f'seeds=[0], {extended_to}')))
    assert ran.failed == 0 and not any('_longer' in r['name'] for r in ran.results)


def test_a_failure_leaves_out_what_needs_it_and_no_more(done):
    done.append('search', 'train_cfg = dict(max_epochs=1, held_out=dict(ratio=0.001))')
    ran = done.run()
    assert {r['name'] for r in ran.results} == {'teacher', 'student', 'kd'} and ran.failed == 3
    failed = [line for line in ran.messages if 'search, seed 0: FAILED' in line]
    assert len(failed) == 1 and 'held_out' in failed[0]
    assert sum('left out, because it needs search' in line for line in ran.messages) == 2
    assert 'held_out' in (done.path / 'work' / 'search' / 'seed_0' / 'run.log').read_text()


def test_a_teacher_that_was_trained_elsewhere_is_evaluated_and_used(done):
    trained = {r['name']: r for r in done.run(done.write(ONE_SEED)).results}
    (done.path / 'work' / 'teacher' / 'epoch_2.pth').rename('given.pth')
    results = {r['name']: r for r in done.run(teacher_ckpt='given.pth', only=['kd']).results}
    assert results['teacher']['accuracy'] == trained['teacher']['accuracy'] and results['teacher']['iterations'] == 0
    assert results['kd']['accuracy'] == trained['kd']['accuracy']
    assert json.loads((done.path / 'work' / 'teacher' / 'result.json').read_text())['compute'] == 0
