"""In a long training, the features of a process of short rounds end: by a config with the hook, also when resumed."""
import os

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from runs import Watch, trained

from distpro.process import load_process

EPOCHS = 120  # of 5 iterations
LOGITS = [dict(type='KLDivergence', tau=4, name='kl')]
END, FADED = 5 / 6, 5 / 6 + 1 / 8  # features are lowered after 500 of 600 iterations


def config(make_config, name='long', process='general', **hook):
    return make_config('distill', name, train_cfg__max_epochs=EPOCHS, log_level='WARNING',
                       model__distiller__logits=LOGITS,
                       default_hooks__checkpoint__interval=29, default_hooks__checkpoint__max_keep_ckpts=-1,
                       custom_hooks=[dict(type='mmrazor.ProcessReplayHook', process=process, **hook)])


def weights(runner):
    return runner.model.distiller.grid.weights().tolist()


def stop(runner):
    raise KeyboardInterrupt


@pytest.mark.long
def test_features_end_and_a_killed_training_resumes_after_their_end(make_config):
    watch = Watch(after=weights)
    runner = trained(config(make_config), watch)
    grid, seen = runner.model.distiller.grid, np.array(watch.seen)
    progress = np.arange(len(seen)) / (len(seen) - 1)
    features = [index for index in range(len(grid.names)) if index not in grid.logit_indices]
    first = [index for index in features if grid.pathways[index].receiver.name == grid.layer_names['receivers'][0]]
    others = [index for index in features if index not in first]
    assert first and others and (seen[:, first] == 0).all()
    assert (seen[progress <= END][:, others] > 0).all() and (seen[progress >= FADED][:, others] == 0).all()
    assert (seen[progress >= FADED][:, grid.logit_indices] == seen[:, grid.logit_indices].max(0)).all()
    assert [grid.names[index] for index in grid.active] == [grid.names[index] for index in grid.logit_indices]

    again = config(make_config, 'again')
    again.load_from, again.resume = os.path.join(runner.work_dir, 'epoch_116.pth'), True
    resumed = trained(again)
    for (name, value), other in zip(runner.model.state_dict().items(), resumed.model.state_dict().values()):
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other, name


def schedule(cfg):
    """The weights of all iterations [iterations, N] of a training that is stopped after the first."""
    runner = Runner.from_cfg(cfg)
    runner.register_hook(Watch(after=stop))
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    return next(hook for hook in runner.hooks if hasattr(hook, 'schedule')).schedule


def check_ends(ends, stays):
    first = int(END * len(ends))
    feature = -2  # the deepest one; the last column is that of the logits
    assert np.allclose(ends[:first, feature], stays[:first, feature], rtol=1e-12)
    assert ends[-1, feature] == 0 < stays[-1, feature] and (ends[:, 0] == 0).all() and (stays[:, 0] > 0).all()


def test_it_can_be_switched_off(make_config):
    check_ends(*(schedule(config(make_config, f'end_{end}', fit_length=end)) for end in (True, False)))


def test_it_holds_for_a_process_that_was_searched_with_this_pair_in_shorter_rounds(make_config):
    networks = make_config('distill').model
    searched = trained(make_config(
        'whole_run', train_cfg__rounds=2, train_cfg__round_share=0.5, train_cfg__max_epochs=4,
        model__distiller__logits=LOGITS, model__distiller__transforms=networks.distiller.transforms))
    path = os.path.join(searched.work_dir, 'process.json')
    check_ends(*(schedule(config(make_config, f'end_{end}', path, fit_length=end)) for end in (True, False)))
    process = load_process(path)
    assert 0 < process.origin['iterations'] < 20
    process.origin['iterations'] = 5 * EPOCHS  # rounds as long as the training
    process.save(path)
    assert (schedule(config(make_config, 'as_long', path))[-1] > 0).all()
