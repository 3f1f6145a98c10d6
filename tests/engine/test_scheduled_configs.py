"""The temperature of logits and the weight of the cross-entropy over time, in configs."""
import pytest
import torch
from runs import trained

from distpro.process import DistillationProcess
from distpro_mm.engine.launch import build_trainer
from distpro_mm.errors import ConfigError


def distilled(make_config, name, tau, loss_weight, scheduled):
    """The student after an epoch of a distillation with logits of weight 2."""
    process = dict(progress=[0, 1], weights=dict(features=[1, 1], logits=[2, 2]), scheduled=scheduled)
    cfg = make_config('distill', name, train_cfg__max_epochs=1,
                      custom_hooks=[dict(type='mmrazor.ProcessReplayHook', process=process)],
                      model__distiller__logits=[dict(type='KLDivergence', tau=tau, name='kl')])
    cfg.model.architecture.head.loss = dict(type='CrossEntropyLoss', loss_weight=loss_weight)
    runner = build_trainer(cfg)
    runner.train()
    return runner.model.student.state_dict()


def test_the_report_has_what_was_scheduled(make_config, tmp_path):
    distilled(make_config, 'reported', 4, 1.0, dict(temperature=[1, 3], cross_entropy=[0, 0.5]))
    replayed = DistillationProcess.load(str(tmp_path / 'reported' / 'replayed.json'))
    assert list(replayed.scheduled) == ['temperature', 'cross_entropy']
    assert replayed.scheduled_at([0, 1]).tolist() == [[1, 0], [3, 0.5]]


def test_constant_schedules_are_what_the_losses_could_have(make_config):
    """A temperature of 4 times 0.25, and a weight of the cross-entropy of 1 times 0.5."""
    found = distilled(make_config, 'scheduled', 4, 1.0, dict(temperature=[0.25, 0.25], cross_entropy=[0.5, 0.5]))
    plain = distilled(make_config, 'plain', 1, 0.5, None)
    other = distilled(make_config, 'other', 1, 1.0, None)
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    assert not all(torch.allclose(other[name], value) for name, value in plain.items())


def test_what_is_scheduled_has_no_price(make_config):
    """A penalty on expensive pathways is the same with and without it."""
    losses = []
    for scheduled in ([], ['cross_entropy']):
        cfg = make_config('whole_run', str(len(scheduled)), train_cfg__rounds=2, train_cfg__max_epochs=1,
                          train_cfg__cost_penalty=0.5, train_cfg__scheduled=scheduled)
        losses.append(trained(cfg).train_loop.searcher.history[0].loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_search_with_other_schedules_is_not_resumed(make_config):
    trained(make_config('whole_run', 'one', train_cfg__rounds=1, train_cfg__scheduled=['cross_entropy']))
    cfg = make_config('whole_run', 'one', train_cfg__rounds=2)
    with pytest.raises(ConfigError, match=r"train_cfg.scheduled: \['cross_entropy'\] then, None now"):
        build_trainer(cfg, resume='auto').train()


def test_wrong_schedules_are_refused_with_their_key(make_config):
    with pytest.raises(ConfigError, match=r"train_cfg.scheduled=\['tau'\] must be a list with some of temperature"):
        trained(make_config('whole_run', train_cfg__scheduled=['tau']))
    with pytest.raises(ConfigError, match='ProcessReplayHook.process: .*cross_entropy=.* must be 2 numbers from 0 on'):
        distilled(make_config, 'wrong', 4, 1.0, dict(cross_entropy=[1]))
