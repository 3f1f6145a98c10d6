"""The figure of a process."""
import os

import cv2
import numpy as np
import pytest

from distpro.process import DistillationProcess
from distpro.weighting import Weighting
from distpro_mm.reporting import draw_accuracy, draw_process, figures


def process(pathways=3, knots=5):
    names = [f'layer{i}>layer{i}:pointwise' for i in range(pathways)]
    return DistillationProcess(names, Weighting('exponential'), np.linspace(0, 1, knots), np.random.randn(knots, pathways))


@pytest.mark.parametrize('pathways, knots', [(1, 1), (3, 5), (40, 2000)])
def test_draws_one_line_a_pathway(tmp_path, monkeypatch, pathways, knots):
    drawn = []
    monkeypatch.setattr(figures, 'save_figure', lambda figure, path: drawn.append(figure))
    subject = process(pathways, knots)
    draw_process(subject, 'unused')
    axes, = drawn[0].axes
    assert len(axes.lines) == pathways
    heaviest = np.argsort(-subject.weights.mean(axis=0))
    for line, index in zip(axes.lines, heaviest):
        assert line.get_ydata()[0] == subject.weights[0, index] and line.get_ydata()[-1] == subject.weights[-1, index]
        assert len(line.get_xdata()) == min(knots, figures.MAX_POINTS)
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert named == [subject.names[index] for index in heaviest[:figures.NAMED]]


def test_writes_a_picture(tmp_path, real_pictures):
    path = str(tmp_path / 'process.png')
    draw_process(process(), path)
    assert cv2.imread(path).std() > 5 and os.listdir(tmp_path) == ['process.png']


def test_a_failed_write_leaves_the_old_picture(tmp_path, real_pictures):
    path = tmp_path / 'process.png'
    path.write_bytes(b'old')

    class Broken:

        def savefig(self, path, **kwargs):
            with open(path, 'w') as file:
                file.write('half')
            raise OSError('No space left on device')

    with pytest.raises(OSError, match='No space'):
        figures.save_figure(Broken(), str(path))
    assert path.read_bytes() == b'old' and os.listdir(tmp_path) == ['process.png']


def test_accuracy_is_drawn_against_epochs_and_against_compute(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, 'save_figure', lambda figure, path: drawn.append(figure))

    def run(name, seed, budget, accuracy, after=None):
        return dict(name=name, seed=seed, budget=budget, accuracy=accuracy, epochs=int(20 * budget), compute=10 * budget,
                    after=after, tuning=False)

    results = [run('search', 0, 1, 50.0), *(run('kd', seed, budget, 80 + seed + 10 * budget) for seed in (0, 2)
                                            for budget in (0.5, 1)), run('distpro', 0, 1, 95.0, 'search')]
    draw_accuracy(results, ['kd', 'distpro', 'none'], 'unused')
    epochs, compute = drawn[0].axes
    lines = {axis: [container.lines[0] for container in axis.containers] for axis in drawn[0].axes}
    assert [line.get_xydata().tolist() for line in lines[epochs]] == [[[10, 86], [20, 91]], [[20, 95]]]
    assert [line.get_xydata().tolist() for line in lines[compute]] == [[[5, 86], [10, 91]], [[20, 95]]]  # with the search
    error = epochs.containers[0].lines[2][0].get_segments()[0]
    assert error[:, 1].tolist() == [85, 87]  # two runs 2 apart: a standard error of 1
    assert [text.get_text() for text in compute.get_legend().get_texts()] == ['kd', 'distpro']
    monkeypatch.setattr(figures, 'NAMED', 1)  # a method with several budgets comes before a better one
    draw_accuracy(results, ['distpro', 'kd'], 'unused')
    assert [text.get_text() for text in drawn[1].axes[1].get_legend().get_texts()] == ['kd']
    assert drawn[1].axes[1].get_legend().get_title().get_text() == '(and 1 more)'
