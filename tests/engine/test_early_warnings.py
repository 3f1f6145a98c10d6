"""A search or a distillation that goes wrong says so while it runs, once, with the value seen and what to try."""
import pytest
import torch

from distpro_mm.engine.hooks import GradientNormHook, TeacherCheckHook
from distpro_mm.engine.launch import build_trainer


def warnings_of(cfg):
    """The runner of a config after its training, and the warnings."""
    runner, said = build_trainer(cfg), []
    runner.logger.warning = lambda message, *_: said.append(str(message))
    runner.train()
    return runner, said


def about(said, text):
    return [line for line in said if text in line]


EARLY = ('does not move', 'go to 0', 'hardly count', 'held-out loss', 'logits are misleading', 'gradient')


def test_weights_of_a_search_that_do_not_move(make_config):
    _, said = warnings_of(make_config('search', train_cfg__max_epochs=3, train_dataloader__batch_size=10,
                                      optim_wrapper__alpha=dict(optimizer=dict(type='Adam', lr=1e-9))))
    line, = about(said, 'does not move')
    assert 'in 24 updates; the largest is ' in line and 'Raise optim_wrapper.alpha.optimizer.lr' in line


def test_weights_of_a_search_that_go_to_zero(make_config):
    _, said = warnings_of(make_config('search', train_cfg__max_epochs=4, train_cfg__cost_penalty=1000.,
                                      model__distiller__weighting=dict(_delete_=True, type='exponential'),
                                      optim_wrapper__alpha=dict(optimizer=dict(type='Adam', lr=1.))))
    line, = about(said, 'go to 0')
    assert 'train_cfg.cost_penalty' in line


def test_the_held_out_loss_of_a_search_that_rises(make_config):
    cfg = make_config('search', train_cfg__max_epochs=6, optim_wrapper__optimizer__lr=0.2, model__fast_teacher='exact',
                      custom_hooks=[dict(type='mmrazor.TrainingWatchHook', must_learn=False)])
    cfg.param_scheduler = dict(type='ExponentialLR', gamma=3., by_epoch=True)
    _, said = warnings_of(cfg)
    line, = about(said, 'held-out loss rises from epoch to epoch')
    assert 'Lower optim_wrapper.optimizer.lr' in line


@pytest.fixture
def rounds(make_config):
    """rounds(**options): a search in rounds of 5 refinements without references or levels."""
    def make(**options):
        return make_config('whole_run', **dict(dict(train_cfg__rounds=3, train_cfg__max_epochs=1), **options))

    return make


def test_refinements_that_do_not_move(rounds):
    _, said = warnings_of(rounds(train_cfg__searcher=dict(type='RpropSearcher', step_size=1e-6)))
    line, = about(said, 'does not move')
    assert 'Raise train_cfg.searcher.step_size' in line and 'train_cfg.min_iterations' in line


@pytest.mark.long
def test_refinements_that_get_worse_and_worse(rounds):
    _, said = warnings_of(rounds(
        train_cfg__rounds=4, train_cfg__searcher=dict(type='RpropSearcher', step_size=8.0, tolerance=1e6),
        train_cfg__max_epochs=4, optim_wrapper__optimizer__lr=0.1))
    line, = about(said, 'rises from refinement to refinement')
    assert 'lower train_cfg.searcher.step_size' in line


def test_levels_that_end_at_the_lowest(rounds):
    _, said = warnings_of(rounds(train_cfg__rounds=0, train_cfg__max_divisions=6, train_cfg__feature_weight=1e7))
    line, = about(said, 'hardly count')
    assert 'divided by 1024' in line or 'divided by 4096' in line


def test_a_teacher_that_guesses_is_named_before_its_training_ends(make_config, tmp_path):
    cfg = make_config('equal', train_cfg__max_epochs=4)
    _, said = warnings_of(cfg)  # the teacher of the small configs has random weights
    line, = about(said, 'its logits are misleading')
    assert 'of the first 200 training images' in line and 'guessing the most frequent class on 10.0%' in line
    assert 'Check model.teacher_ckpt' in line


def test_the_check_of_the_teacher_changes_no_bit(make_config):
    students = []
    for name in ('with', 'without'):
        cfg = make_config('equal', name)
        runner = build_trainer(cfg)
        if name == 'without':
            runner._hooks = [hook for hook in runner.hooks if not isinstance(hook, (TeacherCheckHook, GradientNormHook))]
        runner.train()
        students.append(runner.model.student.state_dict())
    assert all(torch.equal(value, students[1][name]) for name, value in students[0].items())


def test_a_student_without_a_gradient(make_config):
    _, said = warnings_of(make_config(
        'equal', train_cfg__max_epochs=6, train_dataloader__batch_size=10, model__calculate_student_loss=False,
        model__distiller__weighting__kd_weight=1e-20, custom_hooks=[dict(type='mmrazor.GradientNormHook', interval=1)]))
    line, = about(said, "The norm of the student's gradient is ")
    assert 'e-2' in line and 'model.calculate_student_loss' in line


def test_a_gradient_that_grows(make_config):
    cfg = make_config('student', train_cfg__max_epochs=12, train_dataloader__batch_size=10,
                      custom_hooks=[dict(type='mmrazor.GradientNormHook', interval=1),
                                    dict(type='mmrazor.TrainingWatchHook', must_learn=False)])
    cfg.param_scheduler = dict(type='MultiStepLR', milestones=[40], gamma=200., by_epoch=False)
    _, said = warnings_of(cfg)
    line, = about(said, 'gradient has grown from')
    assert 'Lower optim_wrapper.optimizer.lr' in line


@pytest.mark.long
def test_healthy_trainings_are_left_alone(make_config, trained_teacher):
    common = dict(model__teacher=make_config('student').model.to_dict(), model__teacher_ckpt=trained_teacher)
    for kind, epochs in (('kd', 6), ('equal', 6), ('search', 6), ('whole_run', 2)):
        options = dict(train_cfg__rounds=3) if kind == 'whole_run' else {}
        _, said = warnings_of(make_config(kind, train_cfg__max_epochs=epochs, **common, **options))
        assert not [line for line in said for text in EARLY if text in line], kind
