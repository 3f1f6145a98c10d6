"""Students with averaged weights, frozen stages, checkpointing or several heads, and two sets of teacher layers."""
import os

import pytest
import torch
import torch.nn.functional as functional
from mmpretrain.models.heads import LinearClsHead
from mmpretrain.registry import MODELS

from backbone_matrix import PARTNER, config, train
from backbones import BACKBONES
from distpro_mm.errors import ConfigError


def run(folder, change, kinds=('published_search', 'search', 'distill'), student='ResNet'):
    runners = {}
    for kind in kinds:
        cfg = config(kind, PARTNER, student, BACKBONES[student].shape, str(folder))
        change(cfg)
        runners[kind] = train(cfg)
    return runners


def names(runner, side='receiver'):
    return [tap.name for tap in runner.model.distiller.taps(side)]


@pytest.mark.long
def test_an_average_of_the_weights_is_stored(tmp_path):
    def change(cfg):
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='EMAHook', momentum=0.25)]

    runners = run(tmp_path, change)
    for kind, runner in runners.items():
        saved = torch.load(os.path.join(runner.cfg.work_dir, f'epoch_{runner.epoch}.pth'), 'cpu', weights_only=False)
        key = 'architecture.head.fc.weight'  # the hook stores the average as state_dict, and the weights separately
        assert not torch.equal(saved['state_dict'][key], saved['ema_state_dict'][f'module.{key}'])
        assert torch.equal(saved['ema_state_dict'][f'module.{key}'], runner.model.state_dict()[key].cpu()), kind


@pytest.mark.long
def test_frozen_stages_are_left_out_and_stay_as_they_are(tmp_path):
    for runner in run(tmp_path, lambda cfg: cfg.model.architecture.backbone.update(frozen_stages=1)).values():
        assert names(runner) == ['layer2', 'layer3', 'layer4']
        assert not any(p.requires_grad for p in runner.model.student.backbone.layer1.parameters())


def test_checkpointing_is_refused_in_a_search_and_changes_nothing_in_a_distillation(tmp_path):
    def checkpoint(cfg):
        cfg.model.architecture.backbone.with_cp = True

    plain = run(tmp_path, lambda cfg: None, ['search', 'distill'])['distill']
    checkpointed = run(tmp_path, checkpoint, ['distill'])['distill']
    assert names(checkpointed) == names(plain)
    for name, value in plain.model.student.named_parameters():
        torch.testing.assert_close(checkpointed.model.student.state_dict()[name], value)
    for kind in ('search', 'published_search'):
        with pytest.raises(ConfigError, match='with_cp=True.*set it to False for the search'):
            run(tmp_path, checkpoint, [kind])


def test_layers_of_two_sets_teach_together(tmp_path):
    def change(cfg):
        cfg.model.distiller.transmitters = ['auto', dict(module='backbone.layer3.0', name='inner')]

    for runner in run(tmp_path, change).values():
        assert names(runner, 'transmitter') == ['stem', 'layer1', 'layer2', 'layer3', 'inner']


@MODELS.register_module()
class TwoLossesHead(LinearClsHead):
    """An additional loss, as of an auxiliary head."""

    def loss(self, feats, data_samples, **kwargs):
        return dict(super().loss(feats, data_samples, **kwargs), loss_auxiliary=feats[-1].square().mean())


def test_a_student_with_several_losses_is_searched_by_their_sum(tmp_path):
    def change(cfg):
        cfg.model.architecture.head.type = 'TwoLossesHead'

    for kind, runner in run(tmp_path, change, ['published_search', 'search']).items():
        assert {'train/student.loss', 'train/student.loss_auxiliary'} <= set(runner.message_hub.log_scalars), kind
        batch = next(iter(runner.train_loop.held_out_dataloader))
        found = runner.model.held_out_loss(batch)
        student, prepared = runner.model.student, runner.model.data_preprocessor(batch, True)
        features = student.extract_feat(prepared['inputs'])[-1]
        targets = torch.cat([sample.gt_label for sample in prepared['data_samples']])
        entropy = functional.cross_entropy(student.head.fc(features), targets)
        torch.testing.assert_close(found, entropy + features.square().mean())


def test_a_student_with_two_classifiers_is_searched(tmp_path):
    for runner in run(tmp_path, lambda cfg: None, ['published_search', 'search'], 'Conformer').values():
        batch = runner.model.data_preprocessor(next(iter(runner.train_loop.held_out_dataloader)), True)
        assert len(runner.model.student(batch['inputs'])) == 2
