"""Plain torch modules as student and teacher of a DistPro model."""
import torch
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS
from torch import nn
from toys import network

from distpro_mm.models import ModuleClassifier


def test_plain_modules_are_distilled_searched_and_validated(make_config):
    for kind in ('equal', 'whole_run'):
        student = network(4, 10, 1)
        before = student[0][0].weight.clone()
        cfg = make_config(kind, train_cfg__max_epochs=1)
        cfg.model.update(architecture=student, teacher=network(8, 10, 1))
        if kind == 'whole_run':
            cfg.train_cfg.rounds = 1
        preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor')
        model = MODELS.build(dict(cfg.model, data_preprocessor=preprocessor, _scope_='mmrazor'))
        arguments = {key: value for key, value in cfg.items() if key in (
            'train_dataloader', 'val_dataloader', 'val_evaluator', 'val_cfg', 'train_cfg', 'optim_wrapper',
            'param_scheduler', 'work_dir', 'default_scope', 'default_hooks', 'custom_hooks', 'log_level', 'experiment_name')}
        runner = Runner(model=model, **arguments)
        runner.train()
        assert runner.model.student.module is student and not torch.equal(student[0][0].weight.cpu(), before)
        assert 0 <= runner.val_loop.run()['accuracy/top1'] <= 100


def test_predictions_are_the_softmax_of_the_logits():
    classifier = ModuleClassifier(network(4, 10, 1)).eval()
    images = torch.randn(3, 1, 8, 8)
    logits = classifier(images)
    samples = classifier(images, [DataSample() for _ in range(3)], mode='predict')
    assert torch.equal(torch.stack([sample.pred_score for sample in samples]), logits.softmax(1))
    assert torch.equal(torch.cat([sample.pred_label for sample in samples]), logits.argmax(1))
    labelled = [DataSample().set_gt_label(label) for label in (1, 2, 3)]
    loss = classifier(images, labelled, mode='loss')['loss']
    assert torch.equal(loss, nn.functional.cross_entropy(logits, torch.tensor([1, 2, 3])))
