"""Methods side by side: what is trained, what is alike, what is chosen where, what is skipped, what a failure costs."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS

from distpro.process import DistillationProcess
from distpro_mm.comparison import Benchmark, JobMaker, run_benchmark, runs
from distpro_mm.comparison.machine import only_comparison
from distpro_mm.errors import ConfigError

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
SMALL = textwrap.dedent("""
    train_cfg = dict(max_epochs=2)
    param_scheduler = dict(T_max=2)
    train_dataloader = dict(batch_size=20, dataset=dict(dataset=dict(images_per_class=10)))
    val_dataloader = dict(dataset=dict(dataset=dict(indices=100)))
    log_level = 'ERROR'
    """)
BASES = dict(teacher='teachers/resnet20_digits.py', student='baselines/student.py', kd='baselines/kd.py',
             simkd='baselines/simkd.py', search='distpro/published_search.py', distpro='distpro/published_distill.py')
WEIGHT = 'model.distiller.distill_losses.loss_kl.loss_weight'
KD_WEIGHT = 'model.distiller.weighting.kd_weight'


def write(folder, text, name='small.py'):
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return str(path)


@pytest.fixture
def benchmark(tmp_path):
    """A benchmark of two epochs on a few digits."""
    for name, base in BASES.items():
        pair = 'resnet20_resnet8-half_digits/' if name != 'teacher' else ''
        work_dir = f"work_dir = 'work_dirs/{pair}{pathlib.Path(base).stem}'\n"
        write(tmp_path, f"_base_ = '{CONFIGS / base}'\n{SMALL}{work_dir}", f'{name}.py')
    return write(tmp_path, '''
        benchmark = dict(
            pair='resnet20_resnet8-half_digits', teacher='teacher.py',
            stages=dict(search=dict(config='search.py', seeds=[0])),
            methods=dict(student='student.py', kd='kd.py', distpro=dict(config='distpro.py', after='search')),
            reference='student', seeds=[0, 1])''')


class InOrder:
    """Stands for the pool of processes: runs each job at once, in this process."""

    def __init__(self, *args):
        pass

    def shutdown(self):
        pass

    def submit(self, function, *args):
        future = runs.futures.Future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(runs.futures, 'ProcessPoolExecutor', InOrder)


def run_in(tmp_path, path, tell=lambda line: None):
    return run_benchmark(Benchmark(path, str(tmp_path / 'work')), 1, tell)


def student_weights(folder, seed, method='kd'):
    return torch.load(folder / 'work' / method / f'seed_{seed}' / 'epoch_2.pth')['state_dict']


def test_trains_all_then_only_what_has_changed(benchmark, here, tmp_path):
    told = []
    done = run_in(tmp_path, benchmark, told.append)
    results = done['results']
    assert [(r['name'], r['seed']) for r in results] == [
        ('teacher', 0), ('student', 0), ('kd', 0), ('search', 0), ('distpro', 0), ('student', 1), ('kd', 1), ('distpro', 1)]
    assert all(0 <= r['accuracy'] <= 100 and r['iterations'] > 0 and r['compute'] > 0 for r in results)
    assert done['failed'] == 0 and done['choices'] == []
    assert len(DistillationProcess.load(str(tmp_path / 'work' / 'search' / 'seed_0' / 'process.json'))) == 8
    assert run_in(tmp_path, benchmark, told.append) == done and told[-1] == '8 of 8 trainings were done before'
    weights = [student_weights(tmp_path, seed) for seed in (0, 1)]
    assert not torch.equal(weights[0]['architecture.head.fc.weight'], weights[1]['architecture.head.fc.weight'])
    # The search is changed and one result damaged: these and what needs them are trained again, and nothing else.
    with open(tmp_path / 'search.py', 'a') as file:
        file.write('randomness = dict(seed=3)\noptim_wrapper = dict(optimizer=dict(lr=0.01))\n')
    damaged = tmp_path / 'work' / 'kd' / 'seed_1' / 'result.json'
    damaged.write_text(damaged.read_text()[:20])
    told.clear()
    run_in(tmp_path, benchmark, told.append)
    assert told[1] == '4 of 8 trainings were done before'  # told[0]: cores and threads
    assert sorted(line.split('] ')[1].split(':')[0] for line in told[2:]) == [
        'distpro, seed 0', 'distpro, seed 1', 'kd, seed 1', 'search, seed 0']
    again = student_weights(tmp_path, 1)
    assert all(torch.equal(again[name], weights[1][name]) for name in again), 'a second run gives the same figures'


def test_a_killed_run_goes_on_from_its_checkpoint(benchmark, here, tmp_path, monkeypatch):
    trained = runs.build_trainer
    resumed = []

    def dies_in_the_second_epoch(cfg, resume=None):
        runner = trained(cfg, resume=resume)
        if 'kd' in cfg.work_dir and 'seed_0' in cfg.work_dir:
            resumed.append(resume and runner._load_from)
            if len(resumed) == 1:
                def die(*args, **kwargs):
                    raise RuntimeError('killed')
                runner.val_loop  # noqa: B018  built before it is spoilt
                runner.val_loop.run = die
        return runner

    with open(tmp_path / 'kd.py', 'a') as file:
        file.write('default_hooks = dict(checkpoint=dict(interval=1))\n')
    monkeypatch.setattr(runs, 'build_trainer', dies_in_the_second_epoch)
    first = run_in(tmp_path, benchmark)
    assert first['failed'] == 1
    second = run_in(tmp_path, benchmark)
    assert second['failed'] == 0 and resumed[0] is None and resumed[1].endswith('.pth')


def test_what_another_config_left_is_not_gone_on_with(benchmark, here, tmp_path, monkeypatch):
    run_in(tmp_path, benchmark)
    with open(tmp_path / 'kd.py', 'a') as file:
        file.write('optim_wrapper = dict(optimizer=dict(lr=0.01))\n')
    trained, loaded = runs.build_trainer, []

    def killed_at_first(cfg, resume=None):
        runner = trained(cfg, resume=resume)
        loaded.append(runner._load_from)
        if len(loaded) == 1:
            raise RuntimeError('killed before the first checkpoint')
        return runner

    monkeypatch.setattr(runs, 'build_trainer', killed_at_first)
    assert run_in(tmp_path, benchmark)['failed'] == 1
    assert run_in(tmp_path, benchmark)['failed'] == 0
    assert loaded == [None, None, None]  # seed 0 killed, seed 1, and seed 0 from its beginning


def test_another_network_has_other_initial_weights(benchmark, tmp_path):
    def initial():
        return JobMaker(Benchmark(benchmark, str(tmp_path / 'work'))).initial_student(0)

    before = initial()
    assert initial() == before
    with open(tmp_path / 'student.py', 'a') as file:
        file.write('model = dict(backbone=dict(channels=(4, 8, 16)), head=dict(in_channels=16))\n')
    assert initial() != before


def test_all_students_of_a_seed_start_alike(benchmark, tmp_path, here, monkeypatch):
    text = (tmp_path / 'small.py').read_text().replace("kd='kd.py'", "kd='kd.py', simkd='simkd.py'")
    started = {}
    trained = runs.build_trainer

    def watch(cfg, resume=None):
        runner = trained(cfg, resume=resume)
        plain = runner.call_hook

        def call_hook(name, **kwargs):
            plain(name, **kwargs)
            if name == 'before_train':
                student = getattr(runner.model, 'architecture', runner.model)
                started[os.path.relpath(cfg.work_dir, tmp_path / 'work')] = {
                    key: value.clone() for key, value in student.state_dict().items()}
        runner.call_hook = call_hook
        return runner

    monkeypatch.setattr(runs, 'build_trainer', watch)
    assert run_in(tmp_path, write(tmp_path, text))['failed'] == 0
    for seed in (0, 1):
        student = started[f'student/seed_{seed}']
        for other in ('kd', 'distpro', 'simkd'):
            mine = started[f'{other}/seed_{seed}']
            assert all(torch.equal(mine[name], student[name]) for name in student if name.startswith('backbone'))
            assert torch.equal(mine['head.fc.weight'], student['head.fc.weight']) == (other != 'simkd')  # has the teacher's
    assert not torch.equal(started['kd/seed_0']['head.fc.weight'], started['kd/seed_1']['head.fc.weight'])


def test_settings_are_chosen_on_held_out_training_images(benchmark, here, tmp_path):
    text = (tmp_path / 'small.py').read_text().replace(
        "kd='kd.py'", f"kd=dict(config='kd.py', grid={{'{WEIGHT}': [0.9, 1e9]}})").replace(
        "after='search')", f"after='search', grid={{'{KD_WEIGHT}': [1.0, 2.0]}}), uniform=dict(like='distpro', "
        "options={'custom_hooks.0.form': 'uniform'})")
    text = text.replace("'search.py', seeds=[0]", "'search.py', seeds=[5]")
    path = write(tmp_path, text.replace('seeds=[0, 1]', "seeds=[0], tuning=dict(ratio=0.3, seeds=[7])"))
    told = []
    done = run_in(tmp_path, path, told.append)
    assert done['failed'] == 0
    kd = [choice for choice in done['choices'] if choice['method'] == 'kd']
    assert [(c['settings'], c['chosen']) for c in kd] == [({WEIGHT: 0.9}, True), ({WEIGHT: 1e9}, False)]
    assert kd[0]['accuracy'] > kd[1]['accuracy']
    reported = {r['name']: r for r in done['results']}
    assert reported['kd']['settings'] == {WEIGHT: 0.9} and not any(r['tuning'] for r in done['results'])
    # The search is made with the settings that its distillation was given, and its ablation takes both.
    weight = reported['distpro']['settings'][KD_WEIGHT]
    assert reported['uniform']['settings'] == {KD_WEIGHT: weight}
    process = DistillationProcess.load(str(tmp_path / 'work' / 'search_for_distpro' / 'seed_5' / 'process.json'))
    assert process.weighting.kd_weight == weight
    assert sum('trial of kd_weight' in line for line in told) == 2
    # No trial has seen a test image, and none of its held-out images was trained on.
    maker = JobMaker(Benchmark(path, str(tmp_path / 'work')))
    method = maker.benchmark.methods['kd']
    from mmengine.registry import init_default_scope
    from mmpretrain.registry import DATASETS
    cfg = maker.trial(method, {}, 7).config
    init_default_scope('mmpretrain')
    train, val = (DATASETS.build(cfg[key].dataset) for key in ('train_dataloader', 'val_dataloader'))
    assert (len(train), len(val)) == (70, 30) and 'test' not in str(cfg.val_dataloader.dataset.dataset.dataset.split)
    assert not {image.numpy().tobytes() for image in train.images} & {image.numpy().tobytes() for image in val.images}


PLAIN = dict(type='SklearnDigits', images_per_class=5, pipeline=[dict(type='PackInputs')])
DIGITS = dict(PLAIN, pipeline=[dict(type='RandomFlip', prob=0.5), *PLAIN['pipeline']])
FLIP = dict(type='BatchRandomFlip')


@pytest.mark.parametrize('dataset', [
    DIGITS,
    dict(type='RepeatDataset', times=3, dataset=DIGITS),
    dict(type='ConcatDataset', datasets=[DIGITS, dict(type='RepeatDataset', times=2, dataset=DIGITS)]),
    dict(type='InMemoryDataset', dataset=dict(type='RepeatDataset', times=2, dataset=PLAIN), augments=[FLIP]),
    dict(type='RepeatDataset', times=2, dataset=dict(type='InMemoryDataset', dataset=PLAIN, augments=[FLIP])),
], ids=['plain', 'repeat', 'concat', 'in_memory', 'in_memory_inside'])
def test_a_trial_holds_out_images_at_any_depth_and_prepares_them_as_for_evaluation(benchmark, tmp_path, dataset):
    val = dict(type='ConcatDataset', datasets=[dict(PLAIN, split='test')])
    with open(tmp_path / 'kd.py', 'a') as file:
        file.write(f'train_dataloader = dict(dataset={dict(dataset, _delete_=True)})\n'
                   f'val_dataloader = dict(dataset={dict(val, _delete_=True)})\n')
    maker = JobMaker(Benchmark(benchmark, str(tmp_path / 'work')))
    cfg = maker.trial(maker.benchmark.methods['kd'], {}, 100).config
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        train, val, test = (DATASETS.build(cfg[f'{key}_dataloader'].dataset) for key in ('train', 'val', 'test'))
    images = [{part.get_data_info(index)['digits_index'] for index in range(len(part))} for part in (train, val, test)]
    assert not images[0] & images[1] and images[1] == images[2] and (len(images[0]), len(images[1])) == (40, 10)
    assert len(val) == 10, 'each counts once'
    assert 'RandomFlip' in str(cfg.train_dataloader) and 'RandomFlip' not in str(cfg.val_dataloader)


def test_a_grid_is_every_combination_or_a_list_of_settings(benchmark, tmp_path):
    text = (tmp_path / 'small.py').read_text()

    def choices(grid):
        path = write(tmp_path, text.replace("kd='kd.py'", f"kd=dict(config='kd.py', grid={grid})"))
        return Benchmark(path).methods['kd'].choices()

    assert choices(dict(a=[1, 2], b=[3, 4])) == [dict(a=1, b=3), dict(a=1, b=4), dict(a=2, b=3), dict(a=2, b=4)]
    assert choices([dict(a=1, b=3), dict(a=2, b=4)]) == [dict(a=1, b=3), dict(a=2, b=4)]


def test_a_grid_that_is_widened_keeps_the_trials_that_it_had(benchmark, here, tmp_path):
    text = (tmp_path / 'small.py').read_text()

    def run_with(weights):
        told = []
        grid = f"kd=dict(config='kd.py', grid={{'{WEIGHT}': {weights}}})"
        path = write(tmp_path, text.replace("kd='kd.py'", grid).replace('seeds=[0, 1]', "seeds=[0], tuning=dict(seeds=[7])"))
        assert run_in(tmp_path, path, told.append)['failed'] == 0
        return [line for line in told if 'trial of' in line]

    assert len(run_with([0.9, 2.0])) == 2
    assert len(run_with([0.1, 0.9, 2.0])) == 1


@pytest.mark.parametrize('shares', [True, False])
def test_a_stage_may_keep_to_its_own_settings(benchmark, tmp_path, shares):
    text = (tmp_path / 'small.py').read_text().replace("seeds=[0])", f"seeds=[0], shares={shares})")
    benchmark = Benchmark(write(tmp_path, text), str(tmp_path / 'work'))
    maker, method = JobMaker(benchmark), benchmark.methods['distpro']
    run, trial = maker.run(method, 0, 1, {KD_WEIGHT: 2.5}), maker.trial(method, {KD_WEIGHT: 2.5}, 100)
    assert trial.work_dir != maker.trial(method, {}, 100).work_dir
    tried = os.path.basename(os.path.dirname(trial.work_dir))
    for job, folder in ((run, 'search_for_distpro'), (trial, f'tuning/search/{tried}')):
        stage = job.needs[-1]
        assert job.config.model.distiller.grid.weighting.kd_weight == 2.5
        assert (stage.config.model.distiller.grid.weighting.kd_weight == 2.5) == shares
        assert (folder in stage.work_dir) == shares
        assert job.config.custom_hooks[0].process == os.path.join(stage.work_dir, 'process.json')


def test_budgets_are_runs_with_schedules_of_their_own(benchmark, tmp_path):
    text = (tmp_path / 'small.py').read_text().replace('seeds=[0, 1]', 'seeds=[0], budgets=[0.25, 1]')
    with open(tmp_path / 'kd.py', 'a') as file:
        file.write('train_cfg = dict(max_epochs=20)\n'
                   "param_scheduler = dict(_delete_=True, type='MultiStepLR', by_epoch=True, milestones=[10, 16])\n"
                   "custom_hooks = [dict(type='mmrazor.DistillWarmUpHook', epochs=8)]\n")
    benchmark = Benchmark(write(tmp_path, text), str(tmp_path / 'work'))
    maker = JobMaker(benchmark)
    cfg = maker.run(benchmark.methods['kd'], 0, 0.25).config
    assert cfg.train_cfg.max_epochs == 5 and cfg.param_scheduler.milestones == [2, 4]  # 2.5 is rounded to even
    assert cfg.custom_hooks[0].epochs == 2
    assert cfg.model.teacher_ckpt == str(tmp_path / 'work' / 'teacher' / 'epoch_2.pth')
    jobs = [maker.run(benchmark.methods['distpro'], 0, budget) for budget in benchmark.budgets]
    assert jobs[0].needs[-1].key == jobs[1].needs[-1].key, 'one search serves all budgets'
    assert jobs[0].config.custom_hooks[0].process == str(tmp_path / 'work' / 'search' / 'seed_0' / 'process.json')
    assert jobs[0].config.param_scheduler.T_max == 1 and jobs[1].config.param_scheduler.T_max == 2


def schedules(benchmark, tmp_path, method='kd', **entries):
    """schedules(budget) of the method with a config of these entries; of the trial where budget is None."""
    with open(tmp_path / f'{method}.py', 'a') as file:
        file.write(''.join(f'{entry} = {value!r}\n' for entry, value in entries.items()))
    maker = JobMaker(Benchmark(benchmark, str(tmp_path / 'work')))
    method = maker.benchmark.methods[method]
    return lambda budget: (maker.run(method, 0, budget) if budget else maker.trial(method, {}, 100)).config


def test_schedules_in_iterations_are_shortened_too(benchmark, tmp_path):
    warm_up = dict(type='LinearLR', by_epoch=False, start_factor=0.1, end=100)
    config = schedules(
        benchmark, tmp_path, train_cfg=dict(max_epochs=20, val_begin=15, dynamic_intervals=[(10, 1)]),
        param_scheduler=[warm_up,
                         dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=2000, T_max=1900),
                         dict(type='mmengine.MultiStepMomentum', by_epoch=False, milestones=[1000, 1500], gamma=0.5),
                         dict(type='OneCycleLR', by_epoch=False, total_steps=2000, eta_max=0.1),
                         dict(type='CosineRestartLR', by_epoch=False, periods=[500, 1500], restart_weights=[1, 0.5]),
                         dict(type='ExponentialLR', by_epoch=False, gamma=0.99),
                         dict(type='StepLR', by_epoch=True, step_size=8)],
        custom_hooks=[dict(type='EMAHook', begin_iter=200),
                      dict(type='SwitchRecipeHook', schedule=[dict(action_epoch=12, train_augments=None)])])
    whole, short, trial = config(1), config(0.25), config(None)
    assert whole.param_scheduler[1].T_max == 1900 and short.train_cfg.max_epochs == 5 and trial.train_cfg.max_epochs == 20
    for cfg, factor in ((short, 0.25), (trial, 0.8)):  # a trial trains on four fifths of the images
        linear, cosine, steps, cycle, restarts, exponential, by_epoch = cfg.param_scheduler
        assert linear.end == cosine.begin == 100 * factor and cosine.end == 2000 * factor and cosine.T_max == 1900 * factor
        assert steps.milestones == [1000 * factor, 1500 * factor] and cycle.total_steps == 2000 * factor
        assert restarts.periods == [500 * factor, 1500 * factor] and restarts.restart_weights == [1, 0.5]
        assert exponential.gamma**factor == pytest.approx(0.99)
        assert by_epoch.step_size == (2 if cfg is short else 8)
        assert cfg.custom_hooks[0].begin_iter == 200 * factor
        assert cfg.custom_hooks[1].schedule[0].action_epoch == (3 if cfg is short else 12)
        assert cfg.train_cfg.val_interval == cfg.train_cfg.max_epochs
        assert not {'val_begin', 'dynamic_intervals'} & set(cfg.train_cfg)


@pytest.mark.parametrize('budget, kept', [(1, [(0, 5), (5, 100)]), (0.08, [(0, 1), (1, 8)]), (0.01, [(0, 1)])])
@pytest.mark.parametrize('in_iterations', [True, False])
def test_a_warm_up_is_shortened_and_never_all_of_a_run(benchmark, tmp_path, budget, kept, in_iterations):
    config = schedules(benchmark, tmp_path, train_cfg=dict(max_epochs=100), param_scheduler=[
        dict(type='LinearLR', start_factor=1e-3, end=5, convert_to_iter_based=in_iterations),
        dict(type='CosineAnnealingLR', begin=5, end=100, T_max=95, convert_to_iter_based=in_iterations)])
    schedulers = config(budget).param_scheduler
    if not in_iterations:  # a warm-up of one step would leave the learning rate where it begins
        kept = [span for span in kept if span[1] - span[0] > 1]
    assert [(schedule.get('begin', 0), schedule.end) for schedule in schedulers] == kept
    assert all(schedule.T_max == schedule.end - schedule.begin for schedule in schedulers if 'T_max' in schedule)


def test_a_training_that_counts_no_epochs_is_refused(benchmark, tmp_path):
    config = schedules(benchmark, tmp_path, train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=100))
    with pytest.raises(ConfigError, match=r"kd.py': train_cfg=.*max_iters.* has no max_epochs"):
        config(1)


@pytest.mark.parametrize('spelling', ['work_dirs', './work_dirs', 'work_dirs/../work_dirs', '{cwd}/work_dirs', '{link}'])
def test_a_stages_result_is_replaced_however_its_path_is_spelt(benchmark, tmp_path, spelling):
    (tmp_path / 'link').symlink_to(pathlib.Path.cwd() / 'work_dirs')
    folder = spelling.format(cwd=os.getcwd(), link=tmp_path / 'link')
    process = f'{folder}/resnet20_resnet8-half_digits/published_search/process.json'
    hook = dict(type='mmrazor.ProcessReplayHook', process=process)
    config = schedules(benchmark, tmp_path, 'distpro', custom_hooks=[hook])
    assert config(1).custom_hooks[0].process == str(tmp_path / 'work' / 'search' / 'seed_0' / 'process.json')


@pytest.mark.parametrize('change, entries, message', [
    ('', dict(process='elsewhere/process.json'), "has after='search', but its config names no file in 'work_dirs/"),
    ('', dict(process=dict(progress=[0, 1], weights=[1, 2])), "'distpro' has after='search', but its config names no file"),
    (", after='search'", dict(process='./work_dirs/resnet20_resnet8-half_digits/published_search/process.json'),
     r"'distpro' reads './work_dirs/.*process.json', which no training of this comparison writes: give .* after='search'"),
])
def test_what_an_earlier_training_left_is_not_taken_for_a_stages_result(benchmark, tmp_path, change, entries, message):
    text = (tmp_path / 'small.py').read_text()
    path = write(tmp_path, text.replace(change, '') if change else text, 'changed.py')
    config = schedules(path, tmp_path, 'distpro', custom_hooks=[dict(type='mmrazor.ProcessReplayHook', **entries)])
    with pytest.raises(ConfigError, match=message):
        config(1)


def test_files_from_before_the_comparison_are_told_and_their_content_counts(benchmark, here, tmp_path):
    run_in(tmp_path, write(tmp_path, (tmp_path / 'small.py').read_text().replace('seeds=[0, 1]', 'seeds=[0]'), 'first.py'))
    process = tmp_path / 'before' / 'process.json'
    process.parent.mkdir()
    shutil.copyfile(tmp_path / 'work' / 'search' / 'seed_0' / 'process.json', process)
    options = f"options={{'custom_hooks.0.process': '{process}'}}"
    text = (tmp_path / 'small.py').read_text().replace("after='search'", options)
    path = write(tmp_path, text.replace('seeds=[0, 1]', 'seeds=[0]'), 'second.py')
    told = []

    def keys():
        maker = JobMaker(Benchmark(path, str(tmp_path / 'work')))
        return [maker.run(maker.benchmark.methods[method], 0).key for method in ('distpro', 'kd')]

    before = keys()
    done = run_in(tmp_path, path, told.append)
    assert done['failed'] == 0 and f"distpro reads '{process}', which was there before this comparison" in told
    content = json.loads(process.read_text())
    content['progress'][-1] = 1.0 if content['progress'][-1] != 1.0 else 0.99
    process.write_text(json.dumps(content))
    after = keys()
    assert before[0] != after[0] and before[1] == after[1]


def test_a_teacher_of_the_model_zoo_is_the_comparisons(benchmark, tmp_path):
    url = 'https://download.openmmlab.com/teacher.pth'
    maker = JobMaker(Benchmark(write(tmp_path, (tmp_path / 'small.py').read_text().replace(
        "kd='kd.py'", f"kd=dict(config='kd.py', options=dict(teacher_ckpt='{url}', model=dict(teacher_ckpt='{url}')))"),
        'zoo.py'), str(tmp_path / 'work')))
    cfg = maker.run(maker.benchmark.methods['kd'], 0).config
    assert cfg.model.teacher_ckpt == str(tmp_path / 'work' / 'teacher' / 'epoch_2.pth')


def test_the_best_rival_gets_the_compute_of_search_and_distillation(benchmark, here, tmp_path):
    text = (tmp_path / 'small.py').read_text().replace(
        'seeds=[0, 1]', "seeds=[0], longer=dict(than='distpro', of=['student', 'kd'])")
    told = []
    results = run_in(tmp_path, write(tmp_path, text), told.append)['results']
    by_name = {r['name']: r for r in results}
    best = max('student', 'kd', key=lambda name: by_name[name]['accuracy'])
    share = (by_name['search']['compute'] + by_name['distpro']['compute']) / by_name[best]['compute']
    longer = by_name[f'{best}_longer']
    assert longer['budget'] == pytest.approx(share, abs=0.01) and longer['epochs'] == max(1, round(2 * longer['budget']))
    assert any(f'{best} is the best rival' in line for line in told)


def test_a_teacher_that_was_trained_elsewhere_is_evaluated_and_used(benchmark, here, tmp_path):
    trained = {r['name']: r for r in run_in(tmp_path, benchmark)['results']}
    checkpoint = str(tmp_path / 'elsewhere.pth')
    os.rename(tmp_path / 'work' / 'teacher' / 'epoch_2.pth', checkpoint)
    given = Benchmark(benchmark, str(tmp_path / 'again'), teacher_ckpt=checkpoint)
    results = {r['name']: r for r in run_benchmark(given, 1)['results']}
    assert results['teacher']['accuracy'] == trained['teacher']['accuracy'] and results['teacher']['iterations'] == 0
    assert results['kd']['accuracy'] == trained['kd']['accuracy']
    before = JobMaker(given)
    torch.save(dict(torch.load(checkpoint), more=1), checkpoint)  # another file: all that it taught is done again
    assert JobMaker(given).teacher.key != before.teacher.key
    with pytest.raises(ConfigError, match="teacher_ckpt='nowhere.pth': there is no such file"):
        Benchmark(benchmark, teacher_ckpt='nowhere.pth')


def test_names_that_a_config_has_for_itself_make_no_other_training(benchmark, tmp_path):
    before = JobMaker(Benchmark(benchmark, str(tmp_path / 'out')))
    teacher = tmp_path / 'teacher.py'
    teacher.write_text(teacher.read_text() + "another_stage = dict(max_epochs=3)\n")
    assert JobMaker(Benchmark(benchmark, str(tmp_path / 'out'))).teacher.key == before.teacher.key
    teacher.write_text(teacher.read_text() + "optim_wrapper = dict(optimizer=dict(lr=0.07))\n")
    assert JobMaker(Benchmark(benchmark, str(tmp_path / 'out'))).teacher.key != before.teacher.key


def test_methods_that_are_named_come_with_the_reference_and_what_they_are_like(benchmark, tmp_path):
    text = pathlib.Path(benchmark).read_text().replace(
        "after='search')),", "after='search'), last=dict(like='distpro', options={'custom_hooks.0.form': 'last'})),"
        "longer=dict(than='distpro', of=['kd', 'student']),")
    path = write(tmp_path, text, 'more.py')
    assert list(Benchmark(path, only=['last']).methods) == ['student', 'distpro', 'last']
    assert list(Benchmark(path, only=['last']).longer.of) == ['student']
    named = Benchmark(path, only=['kd'])
    assert list(named.methods) == ['student', 'kd'] and named.longer is None
    with pytest.raises(ConfigError, match="--methods='first' is not one of"):
        Benchmark(path, only=['first'])


def test_a_stage_and_a_method_of_one_name_are_refused(benchmark, tmp_path):
    path = write(tmp_path, pathlib.Path(benchmark).read_text().replace('kd=', 'search='), 'twice.py')
    with pytest.raises(ConfigError, match="'search' is a method and a stage"):
        Benchmark(path)


def test_processes_take_the_gpus_in_turn(monkeypatch):
    taken, threads = [], []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'set_device', taken.append)
    monkeypatch.setattr(runs, 'keep_loaded', lambda count: None)
    monkeypatch.setattr(torch, 'set_num_threads', threads.append)
    for place in range(3):
        runs._prepare(5, place)
    assert taken == [0, 1, 0] and threads == [5, 5, 5]


def test_a_failure_leaves_out_what_needs_it_and_no_more(benchmark, here, tmp_path):
    with open(tmp_path / 'search.py', 'a') as file:
        file.write("train_cfg = dict(max_epochs=1, held_out=dict(ratio=0.001))\n")
    told = []
    done = run_in(tmp_path, benchmark, told.append)
    assert {r['name'] for r in done['results']} == {'teacher', 'student', 'kd'} and done['failed'] == 3
    failed = [line for line in told if 'search, seed 0: FAILED' in line]
    assert len(failed) == 1 and 'held_out' in failed[0]
    assert sum('left out, because it needs search' in line for line in told) == 2
    assert 'held_out' in (tmp_path / 'work' / 'search' / 'seed_0' / 'run.log').read_text()


KILLER = """
    import os, pathlib, signal

    from mmengine.hooks import Hook
    from mmrazor.registry import HOOKS


    @HOOKS.register_module()
    class KillOnce(Hook):
        def __init__(self, mark):
            self.mark = pathlib.Path(mark)

        def before_train_epoch(self, runner):
            if runner.epoch == 1 and not self.mark.exists():
                self.mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
    """


def test_a_process_that_is_killed_fails_no_job(benchmark, tmp_path, monkeypatch):
    write(tmp_path, KILLER, 'killer.py')  # a module of the user's own, which the config imports
    monkeypatch.syspath_prepend(str(tmp_path))
    with open(tmp_path / 'kd.py', 'a') as file:
        file.write("custom_imports = dict(imports=['distpro_mm', 'killer'])\n"
                   f"custom_hooks = [dict(type='mmrazor.KillOnce', mark='{tmp_path / 'mark'}')]\n")
    path = write(tmp_path, (tmp_path / 'small.py').read_text().replace('seeds=[0, 1]', 'seeds=[0]'), 'tiny.py')
    told = []
    done = run_benchmark(Benchmark(path, str(tmp_path / 'work'), only=['kd']), 2, told.append)
    assert done['failed'] == 0 and [r['name'] for r in done['results']] == ['teacher', 'student', 'kd']
    assert told[0].startswith('2 trainings at once, 1 thread each (set by OMP_NUM_THREADS): ')  # by conftest.py
    assert [line.partition(':')[0] for line in told if 'its process was killed' in line] == ['kd, seed 0']
    assert 'kd/seed_0/epoch_1.pth' in (tmp_path / 'work' / 'kd' / 'seed_0' / 'run.log').read_text()
    written = json.loads((tmp_path / 'work' / 'student' / 'seed_0' / 'result.json').read_text())
    assert {**written, 'settings': {}} == done['results'][1]


def test_a_job_whose_process_is_killed_twice_has_failed(benchmark, here, tmp_path, monkeypatch):
    trained, tries = runs.build_trainer, []

    def killed(cfg, resume=None):
        if 'kd' in cfg.work_dir:
            tries.append(cfg.work_dir)
            raise runs.BrokenProcessPool('A process in the process pool was terminated abruptly')
        return trained(cfg, resume=resume)

    monkeypatch.setattr(runs, 'build_trainer', killed)
    path = write(tmp_path, (tmp_path / 'small.py').read_text().replace('seeds=[0, 1]', 'seeds=[0]'), 'tiny.py')
    told = []
    done = run_benchmark(Benchmark(path, str(tmp_path / 'work'), only=['kd']), 2, told.append)
    assert done['failed'] == 1 and [r['name'] for r in done['results']] == ['teacher', 'student'] and len(tries) == 2
    assert 'kd, seed 0: FAILED' in told[-1] and 'killed again, with nothing beside it' in told[-1]


def _is_running(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def _comparison(benchmark, tmp_path):
    """compare.py in a process of its own, training."""
    command = [sys.executable, CONFIGS.parent / 'tools/compare.py', benchmark, '--work-dir', tmp_path / 'work']
    # In a session of its own its processes are a group.
    comparison = subprocess.Popen([*command, '--jobs', '1'], cwd=tmp_path, start_new_session=True)
    try:
        until = time.time() + 120
        while not list(tmp_path.glob('work/teacher/*/vis_data')):  # a training has begun
            assert comparison.poll() is None and time.time() < until
            time.sleep(0.1)
        yield comparison
        until = time.time() + 30
        while _is_running(comparison.pid):
            assert time.time() < until, 'trainings are still running'
            time.sleep(0.1)
    finally:
        if _is_running(comparison.pid):
            os.killpg(comparison.pid, signal.SIGKILL)


def test_a_comparison_that_ends_leaves_nothing_running_and_is_alone_until_then(benchmark, tmp_path):
    with open(tmp_path / 'teacher.py', 'a') as file:
        file.write('train_cfg = dict(max_epochs=1000)\n')
    with _comparison(benchmark, tmp_path) as killed:
        with pytest.raises(ConfigError, match=f"work': another comparison runs there since .*, process {killed.pid} on"):
            run_in(tmp_path, benchmark)
        with only_comparison(str(tmp_path / 'elsewhere'), 1) as others:  # which is told where the other one runs
            assert (killed.pid, str(tmp_path / 'work')) in [(other['pid'], other['work_dir']) for other in others]
        killed.kill()
        killed.wait()
    shutil.rmtree(tmp_path / 'work' / 'teacher')
    with _comparison(benchmark, tmp_path) as stopped:  # the one that was killed is not in the way
        stopped.send_signal(signal.SIGTERM)
        assert stopped.wait(60) == 128 + signal.SIGTERM
    assert not list(tmp_path.glob('work/**/result.json'))
    with only_comparison(str(tmp_path / 'work'), 1) as others:
        assert not {killed.pid, stopped.pid} & {other['pid'] for other in others}


@pytest.mark.parametrize('change, message', [
    (("reference='student'", "reference='best'"),
     r"benchmark.reference='best' is not one of \['student', 'kd', 'distpro'\]"),
    (('seeds=[0, 1]', 'seeds=[0, 0]'), r'seeds=\[0, 0\] must be one or more different numbers'),
    (('seeds=[0, 1]', 'seeds=[]'), r'seeds=\[\] must be'),
    (('seeds=[0, 1]', 'seeds=[100]'), r'tuning.seeds=\[100\] are among benchmark.seeds'),
    (('seeds=[0, 1]', 'seeds=[0], budgets=[0, 1]'), r'benchmark.budgets=\[0, 1\] must be .* shares in \(0, 1\]'),
    (('seeds=[0, 1]', 'seeds=[0], tuning=dict(rate=1)'), "benchmark.tuning has .*'rate'"),
    (('seeds=[0, 1]', "seeds=[0], longer=dict(than='x', of=[])"), "benchmark.longer='x' is not one of"),
    (("kd='kd.py'", "kd='nothing.py'"), "names the config 'nothing.py', and there is no file"),
    (("kd='kd.py'", "kd=dict(config='kd.py', gird={})"), r"benchmark.methods: 'kd' has \['config', 'gird'\]; it may have"),
    (("kd='kd.py'", "kd=dict(like='distpro')"), "benchmark.methods: like of kd='distpro' is not one of"),
    (("teacher='teacher.py',", ''), 'is not a benchmark'),
    (('resnet8-half_digits', 'nonsense'), 'no such pair; nearest: resnet20_resnet8-half_digits'),
    (("after='search'", "after='serach'"), r"benchmark: after of distpro='serach' is not one of \['search'\]"),
])
def test_a_benchmark_that_cannot_run_is_refused(benchmark, tmp_path, change, message):
    text = (tmp_path / 'small.py').read_text()
    assert change[0] in text
    path = write(tmp_path, text.replace(*change), 'wrong.py')
    with pytest.raises(ConfigError, match=message):
        Benchmark(path, str(tmp_path / 'work'))
