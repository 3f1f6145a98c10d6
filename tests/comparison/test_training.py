"""One training of a comparison: when it resumes and when it starts again."""
import shutil

from distpro_mm.comparison import training

ONE_SEED = ('seeds=[0, 1]', 'seeds=[0]')


def test_a_killed_run_continues_from_its_checkpoint(done, monkeypatch):
    build_trainer, resumed = training.build_trainer, []

    def dies_in_the_second_epoch(cfg, resume=None, **options):
        runner = build_trainer(cfg, resume=resume, **options)
        resumed.append(resume and runner._load_from)
        if len(resumed) == 1:
            def die(*args, **kwargs):
                raise RuntimeError('killed')
            runner.val_loop  # noqa: B018  built before it is spoilt
            runner.val_loop.run = die
        return runner

    done.append('kd', 'optim_wrapper = dict(optimizer=dict(lr=0.01))')
    monkeypatch.setattr(training, 'build_trainer', dies_in_the_second_epoch)
    path = done.write(ONE_SEED)
    assert done.run(path).failed == 1
    assert done.run(path).failed == 0
    assert resumed[0] is None and resumed[1].endswith('.pth')


def test_a_run_of_another_config_is_not_resumed(done, monkeypatch):
    done.append('kd', 'optim_wrapper = dict(optimizer=dict(lr=0.01))')
    build_trainer, loaded = training.build_trainer, []

    def killed_at_first(cfg, resume=None, **options):
        runner = build_trainer(cfg, resume=resume, **options)
        loaded.append(runner._load_from)
        if len(loaded) == 1:
            raise RuntimeError('killed before the first checkpoint')
        return runner

    monkeypatch.setattr(training, 'build_trainer', killed_at_first)
    assert done.run().failed == 1
    assert done.run().failed == 0
    assert loaded == [None, None, None]  # seed 0 killed, seed 1, and seed 0 from its beginning


def test_a_run_that_was_killed_before_its_last_evaluation_is_evaluated_when_it_resumes(done, monkeypatch):
    path = done.write(ONE_SEED, ("reference='student'", "evaluations=2, reference='student'"))
    before = {result['name']: result for result in done.run(path).results}['kd']
    shutil.rmtree(done.path / 'work' / 'kd')
    build_trainer, evaluated = training.build_trainer, []

    def dies_at_the_second_evaluation(cfg, resume=None, **options):
        runner = build_trainer(cfg, resume=resume, **options)
        evaluate = runner.val_loop.run

        def run(*args, **kwargs):
            evaluated.append((resume, runner.epoch))
            if len(evaluated) == 2:
                raise RuntimeError('killed')
            return evaluate(*args, **kwargs)

        runner.val_loop.run = run
        return runner

    monkeypatch.setattr(training, 'build_trainer', dies_at_the_second_evaluation)
    assert done.run(path).failed == 1
    result = {result['name']: result for result in done.run(path).results}['kd']
    assert evaluated == [(None, 1), (None, 2), ('auto', 2)]
    assert result['accuracy'] == before['accuracy'] and result['best'] >= result['accuracy']
