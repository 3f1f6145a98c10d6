"""Recent baselines as they are shipped: resumed runs end bit for bit alike, and students are exported as plain ones."""
import os

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from runs import Watch, trained

from distpro_mm.export import export_student

METHODS = ('atsc', 'ctkd', 'ickd', 'kd_schedule', 'kdpp', 'lskd_dkd', 'pursuhint', 'scalekd', 'srd', 'vkd', 'wkd_f', 'wkd_l')


@pytest.mark.parametrize('method', METHODS)
def test_a_resumed_run_ends_alike_and_its_student_is_exported(make_config, tmp_path, method):
    cfg = make_config(method, default_hooks__checkpoint__max_keep_ckpts=-1)
    model = trained(cfg).model
    again = make_config(method)
    again.load_from, again.resume = os.path.join(cfg.work_dir, 'epoch_1.pth'), True
    resumed = trained(again).model.state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in model.state_dict().items())
    paths = export_student(cfg, os.path.join(cfg.work_dir, 'epoch_2.pth'), str(tmp_path / 'out'))
    state = torch.load(paths['checkpoint'])['state_dict']
    student = MODELS.build(Config.fromfile(paths['config']).model)
    student.load_state_dict(state)
    images = torch.randn(3, 1, 8, 8)
    model.eval()
    assert torch.equal(student.cpu().eval()(images, mode='tensor'), model.cpu()(images, mode='tensor'))
    assert not any(name.startswith(('teacher', 'architecture', 'distiller')) for name in state)


def test_the_temperature_of_ctkd_is_trained_more_and_more(make_config):
    cfg = make_config('ctkd', custom_hooks__0__warm_up=0.5)

    def state(runner):
        loss = runner.model.distiller.distill_losses['loss_kl']
        return loss.reversal, loss.tau.item()

    watch = Watch(state)
    runner = trained(cfg, watch)
    reversals, taus = zip(*watch.seen)
    assert reversals == tuple(sorted(reversals)) and 0 < reversals[0] < 0.1 and reversals[-1] == 1
    assert taus[0] == pytest.approx(15.62, abs=0.01) and len(set(taus)) == runner.max_iters
