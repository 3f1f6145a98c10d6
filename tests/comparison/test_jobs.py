"""The trainings of a benchmark: shared options, inputs from stages, budgets and held-out images."""
import os

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS

from distpro_mm.comparison import Benchmark, JobMaker
from distpro_mm.errors import ConfigError

KD_WEIGHT = 'model.distiller.weighting.kd_weight'
SEARCH = "stages=dict(search=dict(config='search.py', seeds=[0]))"


def make(path='small.py', **options):
    return JobMaker(Benchmark(path, 'work', **options))


def config_of(folder, method='kd', changes=(), **entries):
    """config(budget): config of a run of the method with these entries, of a trial if the budget is None."""
    folder.append('replay' if method == 'distpro' else method, ''.join(
        f'{entry} = {value!r}\n' for entry, value in entries.items()))
    maker = make(folder.write(*changes))
    method = maker.benchmark.methods[method]
    return lambda budget=1: (maker.run(method, 0, budget) if budget else maker.trial(method, {}, 100)).config


def test_a_run_has_its_seed_and_stays_deterministic(folder):
    folder.append('kd', "randomness = dict(seed=9, deterministic=True)\n")
    maker = make(folder.write())
    assert maker.run(maker.benchmark.methods['kd'], 1, 1).config.randomness == dict(seed=1, deterministic=True)


def test_another_network_has_other_initial_weights(folder):
    before = make().initial_student(0)
    assert make().initial_student(0) == before
    folder.append('student', 'model = dict(backbone=dict(channels=(4, 8, 16)), head=dict(in_channels=16))')
    assert make().initial_student(0) != before


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
def test_a_trial_holds_out_images_at_any_depth_and_prepares_them_as_for_evaluation(folder, dataset):
    val = dict(type='ConcatDataset', datasets=[dict(PLAIN, split='test')])
    cfg = config_of(folder, train_dataloader=dict(dataset=dict(dataset, _delete_=True)),
                    val_dataloader=dict(dataset=dict(val, _delete_=True)))(None)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        train, val, test = (DATASETS.build(cfg[f'{key}_dataloader'].dataset) for key in ('train', 'val', 'test'))
    images = [{part.get_data_info(index)['digits_index'] for index in range(len(part))} for part in (train, val, test)]
    assert not images[0] & images[1] and images[1] == images[2] and (len(images[0]), len(images[1])) == (40, 10)
    assert len(val) == 10, 'each counts once'
    assert 'RandomFlip' in str(cfg.train_dataloader) and 'RandomFlip' not in str(cfg.val_dataloader)


@pytest.mark.parametrize('shares_grid', [True, False])
def test_a_stage_takes_a_methods_grid_by_default(folder, shares_grid):
    maker = make(folder.write(('seeds=[0])', f'seeds=[0], shares_grid={shares_grid})')))
    method = maker.benchmark.methods['distpro']
    run, trial = maker.run(method, 0, 1, {KD_WEIGHT: 2.5}), maker.trial(method, {KD_WEIGHT: 2.5}, 100)
    assert trial.work_dir != maker.trial(method, {}, 100).work_dir
    tried = os.path.basename(os.path.dirname(trial.work_dir))
    for job, work_dir in ((run, 'search_for_distpro'), (trial, f'tuning/search/{tried}')):
        stage = job.needs[-1]
        assert job.config.model.distiller.weighting.kd_weight == 2.5
        assert (stage.config.model.distiller.weighting.kd_weight == 2.5) == shares_grid
        assert (work_dir in stage.work_dir) == shares_grid
        assert job.config.custom_hooks[0].process == os.path.join(stage.work_dir, 'process.json')


def test_budgets_are_runs_with_scaled_schedules(folder):
    folder.append('kd', 'train_cfg = dict(max_epochs=20)\n'
                  "param_scheduler = dict(_delete_=True, type='MultiStepLR', by_epoch=True, milestones=[10, 16])\n"
                  "custom_hooks = [dict(type='mmrazor.LossScheduleHook', warm_up_epochs=8)]")
    maker = make(folder.write(('seeds=[0, 1]', 'seeds=[0], budgets=[0.25, 1]')))
    cfg = maker.run(maker.benchmark.methods['kd'], 0, 0.25).config
    assert cfg.train_cfg.max_epochs == 5 and cfg.param_scheduler.milestones == [2, 4]  # 2.5 is rounded to even
    assert cfg.custom_hooks[0].warm_up_epochs == 2
    jobs = [maker.run(maker.benchmark.methods['distpro'], 0, budget) for budget in maker.benchmark.budgets]
    assert jobs[0].needs[-1].key == jobs[1].needs[-1].key, 'one search serves all budgets'
    assert jobs[0].config.custom_hooks[0].process == 'work/search/seed_0/process.json'
    assert jobs[0].config.param_scheduler.T_max == 1 and jobs[1].config.param_scheduler.T_max == 2


def test_schedules_in_iterations_are_shortened_too(folder):
    warm_up = dict(type='LinearLR', by_epoch=False, start_factor=0.1, end=100)
    config = config_of(
        folder, train_cfg=dict(max_epochs=20, val_begin=15, dynamic_intervals=[(10, 1)]),
        param_scheduler=[warm_up,
                         dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=2000, T_max=1900),
                         dict(type='mmengine.MultiStepMomentum', by_epoch=False, milestones=[1000, 1500], gamma=0.5),
                         dict(type='OneCycleLR', by_epoch=False, total_steps=2000, eta_max=0.1),
                         dict(type='CosineRestartLR', by_epoch=False, periods=[500, 1500], restart_weights=[1, 0.5]),
                         dict(type='ExponentialLR', by_epoch=False, gamma=0.99),
                         dict(type='StepLR', by_epoch=True, step_size=8)],
        custom_hooks=[dict(type='EMAHook', begin_iter=200),
                      dict(type='SwitchRecipeHook', schedule=[dict(action_epoch=12, train_augments=None)]),
                      dict(type='WarmupParamHook', param_name='p', module_name='architecture.head', warmup_epochs=8)])
    full, short, trial = config(1), config(0.25), config(None)
    assert full.param_scheduler[1].T_max == 1900 and short.train_cfg.max_epochs == 5 and trial.train_cfg.max_epochs == 20
    for cfg, factor in ((short, 0.25), (trial, 0.8)):  # a trial trains on four fifths of the images
        linear, cosine, steps, cycle, restarts, exponential, by_epoch = cfg.param_scheduler
        assert linear.end == cosine.begin == 100 * factor and cosine.end == 2000 * factor and cosine.T_max == 1900 * factor
        assert steps.milestones == [1000 * factor, 1500 * factor] and cycle.total_steps == 2000 * factor
        assert restarts.periods == [500 * factor, 1500 * factor] and restarts.restart_weights == [1, 0.5]
        assert exponential.gamma**factor == pytest.approx(0.99)
        assert by_epoch.step_size == (2 if cfg is short else 8)
        assert cfg.custom_hooks[0].begin_iter == 200 * factor
        assert cfg.custom_hooks[1].schedule[0].action_epoch == (3 if cfg is short else 12)
        assert cfg.custom_hooks[2].warmup_epochs == (2 if cfg is short else 8)
        assert cfg.train_cfg.val_interval == cfg.train_cfg.max_epochs
        assert not {'val_begin', 'dynamic_intervals'} & set(cfg.train_cfg)


@pytest.mark.parametrize('budget, spans', [(1, [(0, 5), (5, 100)]), (0.08, [(0, 1), (1, 8)]), (0.01, [(0, 1)])])
@pytest.mark.parametrize('in_iterations', [True, False])
def test_a_warm_up_is_shortened_and_never_all_of_a_run(folder, budget, spans, in_iterations):
    config = config_of(folder, train_cfg=dict(max_epochs=100), param_scheduler=[
        dict(type='LinearLR', start_factor=1e-3, end=5, convert_to_iter_based=in_iterations),
        dict(type='CosineAnnealingLR', begin=5, end=100, T_max=95, convert_to_iter_based=in_iterations)])
    schedulers = config(budget).param_scheduler
    if not in_iterations:  # a warm-up of one step would never raise the learning rate
        spans = [span for span in spans if span[1] - span[0] > 1]
    assert [(schedule.get('begin', 0), schedule.end) for schedule in schedulers] == spans
    assert all(schedule.T_max == schedule.end - schedule.begin for schedule in schedulers if 'T_max' in schedule)


def test_runs_are_evaluated_as_often_as_the_benchmark_says_and_trials_once(folder):
    folder.append('kd', 'train_cfg = dict(max_epochs=20)\nparam_scheduler = dict(T_max=20)')
    maker = make(folder.write(('seeds=[0, 1]', 'seeds=[0], evaluations=5')))
    method = maker.benchmark.methods['kd']
    assert maker.run(method, 0).config.train_cfg.val_interval == 4
    assert maker.run(method, 0, 0.1).config.train_cfg.val_interval == 1  # two epochs
    assert maker.trial(method, {}, 100).config.train_cfg.val_interval == 20
    assert maker.run(maker.benchmark.methods['distpro'], 0).needs[-1].config.train_cfg.val_interval == 2
    assert maker.run(method, 0).key == make(folder.write(('seeds=[0, 1]', 'seeds=[0]'))).run(method, 0).key


def test_a_training_that_counts_no_epochs_is_refused(folder):
    config = config_of(folder, train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=100))
    with pytest.raises(ConfigError, match=r"kd.py': train_cfg=.*max_iters.* has no max_epochs"):
        config()


def test_a_checkpoint_is_where_others_read_it_with_any_config(folder):
    checkpoint = dict(filename_tmpl='e{}.pth', out_dir='elsewhere', interval=5)
    folder.append('teacher', f'default_hooks = dict(checkpoint={checkpoint})')
    maker = make()
    checkpoint = maker.teacher.config.default_hooks.checkpoint
    assert checkpoint.interval == 1 and not {'filename_tmpl', 'out_dir'} & set(checkpoint)
    assert maker.run(maker.benchmark.methods['kd'], 0).config.model.teacher_ckpt == 'work/teacher/epoch_2.pth'


AB = [(SEARCH, "stages=dict(ab_initial='ab_initial.py')"),
      ("kd='kd.py'", "kd=dict(config='ab.py', options={'model.init_cfg.checkpoint': 'stage://ab_initial/checkpoint'})"),
      ("'stage://search/process'", "'process.json'")]


def test_a_method_starts_from_the_checkpoint_of_its_stage(folder):
    shipped = "_base_ = '{}'\ntrain_cfg = dict(max_epochs={})\n"
    configs = os.path.join(os.path.dirname(__file__), '../../configs/baselines')
    for name, epochs in (('ab_initial', 10), ('ab', 20)):
        (folder.path / f'{name}.py').write_text(shipped.format(os.path.abspath(f'{configs}/{name}.py'), epochs))
    maker = make(folder.write(*AB, ('seeds=[0, 1]', 'seeds=[0, 1], tuning=dict(budget=0.5)')))
    method = maker.benchmark.methods['kd']
    run, trial = maker.run(method, 1), maker.trial(method, {}, 100)
    # The stage has no seeds, so it is trained with the seed of the run.
    assert run.config.model.init_cfg.checkpoint == 'work/ab_initial/seed_1/epoch_10.pth'
    assert trial.config.model.init_cfg.checkpoint == f'{trial.needs[-1].work_dir}/epoch_5.pth'
    assert [job.needs[-1].name for job in (run, trial)] == ['ab_initial', 'ab_initial']
    assert 'InitialStudentHook' not in str(run.config.custom_hooks if 'custom_hooks' in run.config else '')
    # If it is the reference, the others still do not start from the stage.
    maker = make(folder.write(*AB, ("reference='student'", "reference='kd'")))
    assert 'init_cfg' not in maker.student.model
    assert maker.run(maker.benchmark.methods['student'], 0).needs == (maker.teacher, )


def test_a_search_has_the_file_name_of_its_process(folder):
    folder.append('search', "custom_hooks = [dict(type='mmrazor.ProcessRecordHook', filename='found.json')]")
    assert config_of(folder, 'distpro')().custom_hooks[0].process == 'work/search/seed_0/found.json'


def test_a_config_may_name_a_stage_itself_at_any_depth(folder):
    found = 'stage://search/process'
    cfg = config_of(folder, custom_hooks=[dict(type='mmrazor.ProcessReplayHook', process=found)], mine=(1, [found]))()
    assert cfg.custom_hooks[0].process == 'work/search/seed_0/process.json' == cfg.mine[1][0]


THERE_ARE = "; there are 'stage://teacher/checkpoint', 'stage://search/process'$"


@pytest.mark.parametrize('value, message', [
    ('stage://serach/process', THERE_ARE), ('stage://search/checkpoint', THERE_ARE), ('stage://search', THERE_ARE),
    ('stage://teacher/process', THERE_ARE)])
def test_what_no_stage_writes_is_refused(folder, value, message):
    config = config_of(folder, 'distpro', [('stage://search/process', value)])
    with pytest.raises(ConfigError, match=f"^benchmark.methods.distpro: custom_hooks.0.process='{value}' is .*{message}"):
        config()


def test_a_method_has_one_stage_and_a_stage_none(folder):
    two = ("seeds=[0]))", "seeds=[0]), other=dict(config='search.py'))")
    config = config_of(folder, 'kd', [two], custom_hooks=[
        dict(type='mmrazor.ProcessReplayHook', process=f'stage://{name}/process') for name in ('search', 'other')])
    with pytest.raises(ConfigError, match=r"methods.kd refers to 2 stages, \['other', 'search'\]: a method may use one"):
        config()
    folder.append('search', "load_from = 'stage://other/process'")
    maker = make(folder.write(two))
    with pytest.raises(ConfigError, match="benchmark.stages.search: load_from='stage://other/process' is not .*; there are "
                                          "'stage://teacher/checkpoint'$"):
        maker.run(maker.benchmark.methods['distpro'], 0)


@pytest.mark.parametrize('spelling', ['work_dirs', './work_dirs', 'work_dirs/../work_dirs', '{cwd}/work_dirs', '{link}'])
def test_what_an_earlier_training_left_is_not_read(folder, spelling):
    (folder.path / 'link').symlink_to(folder.path / 'work_dirs')
    work_dirs = spelling.format(cwd=os.getcwd(), link=folder.path / 'link')
    process = f'{work_dirs}/resnet20_resnet8-half_digits/published_search/process.json'
    with pytest.raises(ConfigError, match=f"methods.distpro: its config names '{process}', in the work_dir of 'search' "
                                          "outside of a comparison: put 'stage://search/process' in its place by options"):
        config_of(folder, 'distpro', [('stage://search/process', process)])()
    teacher = f'{work_dirs}/resnet20_digits/epoch_60.pth'
    with pytest.raises(ConfigError, match=f"methods.kd: its config names '{teacher}', in the work_dir of 'teacher'.*"
                                          'stage://teacher/checkpoint'):
        config_of(folder, model=dict(architecture=dict(init_cfg=dict(type='Pretrained', checkpoint=teacher))))()


def test_methods_have_the_teacher_of_the_comparison_unless_options_say_otherwise(folder):
    url = 'https://download.openmmlab.com/teacher.pth'
    cfg = config_of(folder, teacher_ckpt=url, model=dict(teacher_ckpt=url))()
    assert cfg.model.teacher_ckpt == 'work/teacher/epoch_2.pth'
    options = {'model.teacher_ckpt': url}
    cfg = config_of(folder, changes=[("kd='kd.py'", f"kd=dict(config='kd.py', options={options})")])()
    assert cfg.model.teacher_ckpt == url


def test_names_that_a_config_has_for_itself_make_no_other_training(folder):
    before = make().teacher.key
    folder.append('teacher', 'another_stage = dict(max_epochs=3)')
    assert make().teacher.key == before
    folder.append('teacher', 'optim_wrapper = dict(optimizer=dict(lr=0.07))')
    assert make().teacher.key != before


def test_the_content_of_a_given_teacher_and_of_other_files_counts(folder):
    torch.save(dict(a=1), 'given.pth')
    (folder.path / 'given.json').write_text('{}')
    path = folder.write(('stage://search/process', 'given.json'))

    def keys():
        maker = make(path, teacher_ckpt='given.pth')
        runs = [maker.run(maker.benchmark.methods[method], 0) for method in ('distpro', 'student')]
        assert (runs[0].reads, runs[1].reads) == (('given.json', ), ())
        return [maker.teacher.key, *(job.key for job in runs)]

    before = keys()
    (folder.path / 'given.json').write_text('{"changed": 1}')
    after = keys()
    assert [one == other for one, other in zip(before, after)] == [True, False, True]
    torch.save(dict(a=2), 'given.pth')
    assert not set(keys()) & {*before, *after}, 'all that it taught is trained again'
    with pytest.raises(ConfigError, match="teacher_ckpt='nowhere.pth': there is no such file"):
        make(teacher_ckpt='nowhere.pth')


NAMED = dict(_delete_=True, type='mmrazor.NamedClassifier', name='timm:resnet18')


@pytest.mark.parametrize('entries', [
    dict(load_from='student.pth'),
    dict(model=dict(architecture=dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='a.pth'))))),
    dict(model=dict(architecture=dict(NAMED, pretrained=True))),
    dict(model=dict(architecture=dict(NAMED, checkpoint='a.pth')))])
def test_a_student_keeps_the_weights_that_its_config_names(folder, entries):
    (folder.path / 'student.pth').touch()
    assert 'InitialStudentHook' not in str(config_of(folder, **entries)())
    assert 'InitialStudentHook' in str(config_of(folder, 'student')())


@pytest.mark.parametrize('evaluator', [
    dict(_delete_=True, type='SingleLabelMetric'), dict(type='Accuracy', topk=(5, )), [dict(type='SingleLabelMetric')]])
def test_a_comparison_without_its_metric_is_refused_before_the_teacher_is_trained(folder, evaluator):
    folder.append('kd', f"val_evaluator = {evaluator!r}\n")
    with pytest.raises(ConfigError, match="a comparison needs the metric accuracy/top1: add dict"):
        maker = make(folder.write())
        maker.run(maker.benchmark.methods['kd'], 0)


def test_a_seed_at_the_front_keeps_the_teacher(folder):
    assert make(folder.write()).teacher.key == make(folder.write(('seeds=[0, 1]', 'seeds=[2, 1, 0]'))).teacher.key
