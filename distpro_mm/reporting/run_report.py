"""The report of one training or process."""
import os
import shlex

import numpy as np

from distpro.process import DistillationProcess

from .charts import curves, process_curves, process_map, trials
from .parts import Cell, Chart, Code, Lines, Part, Report, Section, Table
from .processes import origin_rows
from .run_files import Run
from .words import UNITS, describe_process, number, parse_name

KINDS = dict(search='Search of a process', distillation='Distillation', training='Training')


def run_report(run: Run) -> Report:
    """The report of a search, a distillation or a training without a teacher.

    Args:
        run (Run): Its files.
    """
    facts = run.facts
    kind = KINDS[facts.get('kind', 'search' if run.searched else 'training')]
    sections = [_accuracy(run), *_process(run), _cost(run), *_rerun(run)]
    return Report(f'{kind}: {_title(run.work_dir)}',
                  ', '.join(filter(None, [_networks(facts), facts.get('dataset')])) or run.work_dir, _summary(run), sections,
                  _warning(run))


def process_report(process: DistillationProcess, path: str) -> Report:
    """The report of a process file, such as that of a search in a loop of your own.

    Args:
        process (DistillationProcess): The process, with at least one knot.
        path (str): Its file.
    """
    run = Run(os.path.dirname(path), dict(kind='process'), [], [], process, 'trials' in process.origin, {}, None)
    rows = [(name, value) for name, value in origin_rows(process)[1:]]
    return Report(f'Process: {os.path.basename(path)}', _networks(process.origin) or path,
                  [('pathways', str(len(process.names))), ('knots', str(len(process)))],
                  [*_process(run), Section('Where it comes from', [_pairs('Origin', rows)] if rows else [])])


def _networks(facts: dict) -> str:
    return ' teaches '.join(filter(None, [facts.get('teacher'), facts.get('student')]))


def _title(work_dir: str) -> str:
    """The last two folders of a path, such as the pair and the config."""
    return '/'.join(os.path.abspath(work_dir).split(os.sep)[-2:])


def _warning(run: Run) -> str:
    if not run.facts:
        return ('This training left no run.json, so its networks, cost and command are not known, and a resumed part of its '
                'log may be missing.')
    if not run.facts.get('complete'):
        return 'This training has not ended, or was interrupted. The report has what its files have so far.'
    return ''


def _summary(run: Run) -> list[tuple[str, str]]:
    facts, found = run.facts, []
    if run.metric:
        values = run.curve(run.metric)[1]
        if values:
            last = 'of the last trial' if run.searched else 'last'
            found.append((f'{_metric(run.metric)}, {last}', _metric_value(run.metric, values[-1])))
            if len(values) > 1:
                found.append((f'{_metric(run.metric)}, highest', _metric_value(run.metric, max(values))))
    if run.searched and run.process is not None and run.process.origin.get('trials'):
        losses = [trial['loss'] for trial in run.process.origin['trials'] if np.isfinite(trial['loss'])]
        found += [('lowest held-out loss', number(min(losses)))] if losses else []
    seconds = facts.get('seconds') or run.result.get('seconds')
    if seconds:
        found.append(('time', _duration(seconds).partition(' (')[0]))
    for name in ('epochs', 'iterations', 'seed'):
        if facts.get(name) is not None:
            found.append((name, f'{facts[name]:,}' if name != 'seed' else str(facts[name])))
    return found


def _accuracy(run: Run) -> Section:
    parts: list[Part] = []
    if run.metric:
        lines = {_metric(name): run.curve(name) for name in dict.fromkeys(
            name for row in run.evaluations for name in row if name != 'iteration' and name.endswith(_ending(run.metric)))}
        lines = {name: line for name, line in lines.items() if line[0]}
        if lines:
            title = 'Top-1 accuracy' if 'top1' in run.metric else _metric(run.metric)
            parts.append(curves(title, 'accuracy (%)' if 'top1' in run.metric else _metric(run.metric), lines,
                                markers=list(lines)))
    found = {_loss(name): run.curve(name) for name in run.losses}
    found = {name: line for name, line in found.items() if line[0]}
    if found:
        parts.append(curves('Training losses', 'loss', found, logarithmic=list(found)))
    text = '' if parts else 'The training has logged neither losses nor evaluations.'
    if run.searched and found:
        text = ('A search trains the student again and again from the same start, so its losses fall and begin anew with '
                'every trial.')
    return Section('Accuracy and losses', parts, text)


def _process(run: Run) -> list[Section]:
    process = run.process
    if process is None:
        return []
    words = Lines('In words', [*describe_process(process), UNITS[process.weighting.unit]])
    sections = [Section('Process', [words, process_map(process), process_curves(process)], _about(run))]
    found = process.origin.get('trials')
    if run.searched and found:
        chart = trials(found, process.origin.get('best'), process.origin.get('guessing'))
        sections.append(Section('Search', [chart], 'Each trial is a short training with one process. Lower is better.'))
    return sections


def _about(run: Run) -> str:
    """Where the weights come from."""
    if run.searched:
        return 'The weights that the search found.'
    if run.facts.get('kind') == 'process':
        return 'The weights of the pathways over a training.'
    how = run.facts.get('replayed') or {}
    text = f'The weights that were in force; process: {how.get("process", "unknown")}'
    if how.get('ablation', 'process') != 'process':
        text += f', ablation: {how["ablation"]}'
    if how.get('skip_below'):
        text += f', weights below {how["skip_below"]:g} are skipped'
    return text + '.'


def _cost(run: Run) -> Section:
    facts, rows = run.facts, []
    seconds, first = facts.get('seconds'), facts.get('first_iteration') or 0
    if seconds is not None:
        note = f', since it was resumed at iteration {first:,}' if first else ''
        rows.append(('time' + note, _duration(seconds)))
    if run.result.get('compute'):
        rows.append(('compute, seconds of all cores or of the GPU', number(run.result['compute'])))
    times = [(row['time'], row.get('data_time', 0)) for row in run.training if 'time' in row]
    if times:
        step, waiting = np.median(times, axis=0)
        rows.append(('time of a training step, median', f'{step:.3g} s'))
        rows.append(('of it waiting for data', f'{waiting / step:.0%}' if step else ''))
    if facts.get('device'):
        rows.append(('device', facts['device']))
    parts: list[Part] = [_pairs('Time', rows)] if rows else []
    parts += _shares(facts.get('costs') or {})
    return Section('Cost', parts, '' if parts else 'The cost of this training is not known.')


def _shares(costs: dict) -> list[Part]:
    """The parts of a training step, and the most expensive pathways."""
    if not costs:
        return []
    pathways = costs.get('pathways') or {}
    steps = dict(student=1.0, teacher=float(costs['teacher'])) | ({'pathways': sum(pathways.values())} if pathways else {})
    total = sum(steps.values())
    data = [dict(type='bar', orientation='h', name=name, x=[round(100 * value / total, 2)], y=['step'],
                 marker=dict(color=colour), text=[f'{name} {value / total:.0%}'], textposition='inside',
                 insidetextanchor='middle', hovertemplate='%{text}<extra></extra>')
            for (name, value), colour in zip(steps.items(), ('#1f6fc0', '#b85c10', '#1f7d58'))]
    layout = dict(barmode='stack', xaxis=dict(title=dict(text='share of a training step (%)'), range=[0, 100]),
                  yaxis=dict(visible=False), height=190, showlegend=True, legend=dict(traceorder='normal'))
    rows = [[Cell(name), Cell(f'{value:.2f}', value), Cell(f'{value / total:.0%}', value / total)]
            for name, value in steps.items()]
    summary = ', '.join(f'{name} {value / total:.0%}' for name, value in steps.items())
    note = ('Estimated from the operations and the numbers written to memory, as multiples of a training step of the '
            'student alone. The teacher counts as it is, without fast_teacher, which makes it cheaper. Replayed '
            'pathways of weight 0 are not computed and do not count.')
    parts: list[Part] = [Chart('Parts of a training step', dict(data=data, layout=layout), f'Estimated shares: {summary}.',
                               Table('Parts of a training step', ['part', 'steps of the student', 'share'], rows, note))]
    if pathways:
        listed = sorted(pathways.items(), key=lambda entry: -entry[1])
        parts.append(Table('Cost of the pathways', ['pathway', 'steps of the student'],
                           [[Cell(str(parse_name(name))), Cell(f'{value:.3f}', value)] for name, value in listed], note))
    return parts


def _rerun(run: Run) -> list[Section]:
    folder, parts = shlex.quote(run.work_dir), []
    if run.facts.get('command'):
        parts.append(Code('The command that was given', run.facts['command']))
    if run.config:
        name, text = run.config
        path = shlex.quote(os.path.join(run.work_dir, name))
        parts.append(Code('Again with the same settings, in another folder',
                          f'python tools/train.py {path} --work-dir work_dirs/again'))
        if run.searched:
            parts.append(Code('A distillation with the process of this search',
                              'python tools/train.py configs/distpro/distill.py --cfg-options custom_hooks.0.process='
                              + shlex.quote(os.path.join(run.work_dir, run.facts.get('process_file', 'process.json')))))
    parts.append(Code('This report again, from the same files', f'python tools/report.py {folder}'))
    sections = [Section('Run it again', parts)]
    settings: list[Part] = []
    if run.config:
        settings.append(Code(f'Config: {run.config[0]}', run.config[1], folded=True))
    versions = run.facts.get('versions') or {}
    if versions:
        settings.append(_pairs('Versions', list(versions.items())))
    if settings:
        sections.append(Section('Config and versions', settings))
    return sections


def _pairs(title: str, rows: list[tuple[str, str]]) -> Table:
    return Table(title, ['', ''], [[Cell(name), Cell(value)] for name, value in rows])


def _metric(name: str) -> str:
    return 'top-1' if name.endswith('top1') else 'top-5' if name.endswith('top5') else name


def _metric_value(name: str, value: float) -> str:
    return f'{value:.2f}%' if 'top' in name else number(value)


def _ending(metric: str) -> tuple[str, ...]:
    """Endings of the metrics that are drawn with a metric."""
    return ('top1', 'top5') if 'top1' in metric else (metric, )


def _loss(name: str) -> str:
    """A loss's name in the chart."""
    return 'total' if name == 'loss' else name


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f'{seconds:.0f} s'
    minutes, hours = round(seconds / 60), round(seconds / 3600, 1)
    return f'{minutes} min ({seconds:,.0f} s)' if minutes < 120 else f'{hours} h ({seconds:,.0f} s)'
