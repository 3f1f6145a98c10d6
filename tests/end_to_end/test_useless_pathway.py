"""A search distinguishes a useful pathway from a useless one: a layer of a trained teacher, and noise of the same size."""
import os

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from torch import nn

from distpro.process import DistillationProcess
from distpro_mm.models import CIFARResNet


@MODELS.register_module()
class HalfNoiseResNet(CIFARResNet):
    """A network with an additional layer that returns noise with the size of the last stage."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.noise = nn.Identity()

    def forward(self, x):
        features = super().forward(x)
        self.noise(torch.randn_like(features[-1]))
        return features


@pytest.mark.long
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_the_weight_of_noise_goes_down(make_config, trained_teacher, seed):
    cfg = make_config('search', f'search{seed}', randomness__seed=seed + 10, train_cfg__max_epochs=8)
    cfg.train_dataloader.dataset.images_per_class = 30
    cfg.model.teacher.backbone.type = 'HalfNoiseResNet'
    cfg.model.teacher_ckpt = trained_teacher
    last = dict(module='backbone.layer3', before_activation=True)  # as in the published search
    cfg.model.distiller.update(transmitters=[last, 'backbone.noise'], receivers=[last], connections='all')
    runner = Runner.from_cfg(cfg)
    runner.train()
    process = DistillationProcess.load(os.path.join(runner.work_dir, 'process.json'))
    assert process.names == ['layer3>layer3:pointwise', 'noise>layer3:pointwise']
    useful, noise = process.weights.T
    assert noise[0] == useful[0] and noise[-1] < 0.5 * noise[0] and noise[-1] < useful[-1]
    assert np.mean(noise < useful) > 0.8, 'the useless pathway is lighter for most of the search'


@pytest.mark.long
def test_a_search_in_rounds_detects_noise_too(make_config, trained_teacher):
    cfg = make_config('whole_run', train_cfg__max_epochs=6, train_cfg__rounds=4, train_cfg__knots=2,
                      param_scheduler__T_max=6)
    cfg.train_dataloader.dataset.images_per_class = 30
    cfg.model.teacher.backbone.type = 'HalfNoiseResNet'
    cfg.model.teacher_ckpt = trained_teacher
    cfg.model.distiller.update(
        transmitters=['backbone.layer3', 'backbone.noise'], receivers=['backbone.layer3'], connections='all', logits=())
    runner = Runner.from_cfg(cfg)
    runner.train()
    process = DistillationProcess.load(os.path.join(runner.work_dir, 'process.json'))
    assert process.names == ['layer3>layer3:pointwise', 'noise>layer3:pointwise']
    useful, noise = process.weights.T
    assert noise[0] < 0.6 < useful[0] and noise.mean() < useful.mean()  # at the end of a run a weight has little effect
