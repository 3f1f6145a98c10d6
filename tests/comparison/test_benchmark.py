"""The config of a benchmark: grids, a selection of methods, and errors."""
import pytest

from distpro_mm.comparison import Benchmark, JobMaker
from distpro_mm.errors import ConfigError


def test_a_grid_is_one_key_after_the_other_or_a_list_of_settings(folder):
    def axes(grid):
        maker = JobMaker(Benchmark(folder.write(("kd='kd.py'", f"kd=dict(config='kd.py', grid={grid})")), 'work'))
        return [axis.settings for axis in maker.axes(maker.benchmark.methods['kd'])]

    assert axes(dict(a=[1, 2], b=[3, 4])) == [[dict(a=1), dict(a=2)], [dict(b=3), dict(b=4)]]
    assert axes([dict(a=1, b=3), dict(a=2, b=4)]) == [[dict(a=1, b=3), dict(a=2, b=4)]]
    lr = 'optim_wrapper.optimizer.lr'
    assert axes({lr: dict(factors=[0.5, 1])}) == [[{lr: 0.025}, {lr: 0.05}]], 'factors of the value of the config'


def test_selected_methods_come_with_the_reference_and_the_methods_they_are_ablations_of(folder):
    path = folder.write(
        ("'stage://search/process'})),", "'stage://search/process'}), last=dict(ablation_of='distpro', options={"
         "'custom_hooks.0.ablation': 'last'})), extended_to=dict(compute_of='distpro', best_of=['kd', 'student']),"))
    assert list(Benchmark(path, only=['last']).methods) == ['student', 'distpro', 'last']
    assert list(Benchmark(path, only=['last']).extended_to.best_of) == ['student']
    selected = Benchmark(path, only=['kd'])
    assert list(selected.methods) == ['student', 'kd'] and selected.extended_to is None
    with pytest.raises(ConfigError, match="--methods='first' is not one of"):
        Benchmark(path, only=['first'])


@pytest.mark.parametrize('before, after, message', [
    ("reference='student'", "reference='best'",
     r"benchmark.reference='best' is not one of \['student', 'kd', 'distpro'\]"),
    ('seeds=[0, 1]', 'seeds=[0, 0]', r'seeds=\[0, 0\] must be one or more different numbers'),
    ('seeds=[0, 1]', 'seeds=[]', r'seeds=\[\] must be'),
    ('seeds=[0, 1]', 'seeds=0', 'seeds=0 must be one or more different numbers'),
    ('seeds=[0, 1]', 'seeds=[100]', r'tuning.seeds=\[100\] are among benchmark.seeds'),
    ('seeds=[0, 1]', 'seeds=[0], budgets=[0, 1]', r'benchmark.budgets=\[0, 1\] must be .* shares in \(0, 1\]'),
    ('seeds=[0, 1]', 'seeds=[0], tuning=dict(rate=1)', r"benchmark.tuning has no argument 'rate' \(nearest: ratio\)"),
    ('seeds=[0, 1]', 'seeds=[0], tuning=dict(widen=-1)', 'benchmark.tuning.widen=-1 must be a whole number from 0'),
    ('seeds=[0, 1]', 'seeds=[0], evaluations=0', 'benchmark.evaluations=0 must be a whole number from 1'),
    ("kd='kd.py'", "kd=dict(config='kd.py', grid={'a': 1})", "benchmark.methods: grid of kd: 'a' has 1; give a list"),
    ('seeds=[0, 1]', "seeds=[0], extended_to=dict(compute_of='x', best_of=[])", "benchmark.extended_to='x' is not one of"),
    ('seeds=[0, 1]', "seeds=[0], extended_to=dict(than='x')", "extended_to=.*'than'.* must have 'compute_of' and 'best_of'"),
    ("kd='kd.py'", "kd='nothing.py'", "names the config 'nothing.py', and there is no file"),
    ("kd='kd.py'", "kd=dict(config='kd.py', gird={})", r"benchmark.methods: 'kd' has no argument 'gird' \(nearest: grid\)"),
    ("kd='kd.py'", "kd=dict(config='kd.py', after='search')", "'kd' has no argument 'after'.*; it has budgets, config"),
    ("kd='kd.py'", "kd=dict(ablation_of='distpro')", "benchmark.methods: ablation_of of kd='distpro' is not one of"),
    ("teacher='teacher.py',", '', 'is not a benchmark'),
    ('resnet8-half_digits', 'nonsense', 'no such pair; nearest: resnet20_resnet8-half_digits'),
    ('kd=', 'search=', "'search' is a method and a stage"),
    ('search=dict', 'teacher=dict', "benchmark.stages: 'teacher' is the name of a folder of every comparison"),
    ("kd='kd.py'", "tuning='kd.py'", "benchmark.methods: 'tuning' is the name of a folder of every comparison"),
])
def test_a_benchmark_that_cannot_run_is_refused(folder, before, after, message):
    with pytest.raises(ConfigError, match=message):
        Benchmark(folder.write((before, after)))
