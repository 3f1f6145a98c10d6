"""The report of a comparison."""
import os
import shlex
from collections.abc import Sequence

import numpy as np

from distpro.files import write_json

from .comparison_charts import differences, frontier
from .parts import Cell, Code, Part, Report, Section, Table
from .table import accuracies, budgets_of, compute, paired_difference, runs_of
from .words import number

COMPARISON = 'comparison.json'
NOTE = ('Top-1 on the test set after the last epoch, mean and standard deviation over seeds. Differences are between runs '
        'of the same seed, with the 95% interval of a bootstrap over seeds. Compute is the seconds of all cores, or of the '
        'GPU, of one run; "with stage" adds the search that the method needs.')


def write_comparison(work_dir: str, results: Sequence[dict], choices: Sequence[dict], **facts) -> None:
    """Write ``comparison.json``, which the report reads.

    Args:
        work_dir (str): The folder of the comparison.
        results (Sequence[dict]): Results of finished runs, see :func:`distpro_mm.comparison.run_benchmark`.
        choices (Sequence[dict]): The settings that were tried.
        **facts: ``name`` of the benchmark, names of ``methods`` in order, ``reference``, number of ``failed`` trainings,
            ``command``, ``versions`` (dict) and ``config`` (text).
    """
    write_json(os.path.join(work_dir, COMPARISON), dict(facts, results=list(results), choices=list(choices)), indent=1)


def comparison_report(work_dir: str, found: dict) -> Report:
    """The report of a comparison.

    Args:
        work_dir (str): The folder of the comparison.
        found (dict): Content of ``comparison.json``, see :func:`write_comparison`.
    """
    results, reference = found['results'], found['reference']
    methods = [name for name in found['methods'] if accuracies(results, name)]
    sections = []
    if methods:
        shown = [*methods, *(['teacher'] if accuracies(results, 'teacher') else [])]
        parts: list[Part] = [methods_table(results, shown, reference)]
        compared = [name for name in methods if name != reference]
        if accuracies(results, reference) and compared:
            parts.append(differences(results, compared, reference))
        sections.append(Section('Methods', parts))
        sections.append(Section('Accuracy against compute', [frontier(results, methods)], (
            'Upper left is better. A method is on the frontier if no other one is at least as accurate for less compute. '
            'Searches are included.')))
    sections.append(Section('Runs', [runs_table(work_dir, results)]))
    if found.get('choices'):
        sections.append(Section('Settings', [choices_table(found['choices'])],
                                'Settings were chosen on held-out training images; no choice read the test set.'))
    sections += _rerun(work_dir, found)
    failed = found.get('failed', 0)
    warning = f'{failed} trainings failed. Their rows are missing; the same command trains them again.' if failed else ''
    return Report(f'Comparison: {found["name"]}', f'{len(methods)} methods, compared with {reference}',
                  _summary(results, methods, reference), sections, warning)


def _summary(results: Sequence[dict], methods: Sequence[str], reference: str) -> list[tuple[str, str]]:
    means = {name: float(np.mean(list(accuracies(results, name).values()))) for name in methods}
    facts = []
    if means:
        best = max(means, key=lambda name: means[name])
        facts.append(('highest top-1', f'{means[best]:.2f}% ({best})'))
        if reference in means:
            facts.append((f'reference {reference}', f'{means[reference]:.2f}%'))
    teacher = accuracies(results, 'teacher')
    if teacher:
        facts.append(('teacher', f'{np.mean(list(teacher.values())):.2f}%'))
    reported = [run for run in results if not run['tuning']]
    facts += [('runs', str(len(reported))), ('seeds', str(len({run['seed'] for run in reported if run['name'] in methods})))]
    seconds = np.nansum([run['seconds'] for run in reported])
    facts.append(('time of all runs', f'{seconds:,.0f} s' if seconds < 7200 else f'{seconds / 3600:.1f} h'))
    return facts


def methods_table(results: Sequence[dict], methods: Sequence[str], reference: str) -> Table:
    """The methods at their largest budget, the highest accuracy first.

    Args:
        results (Sequence[dict]): Results of finished runs.
        methods (Sequence[str]): Names of methods with results.
        reference (str): The method that the others are compared with.
    """
    base, rows = accuracies(results, reference), []
    for name in sorted(methods, key=lambda name: -np.mean(list(accuracies(results, name).values()))):
        values, budget = accuracies(results, name), budgets_of(results, name)[-1]
        runs = runs_of(results, name, budget)
        mean = float(np.mean(list(values.values())))
        spread = float(np.std(list(values.values()), ddof=1)) if len(values) > 1 else np.nan
        paired = paired_difference(values, base) if name not in (reference, 'teacher') else None
        alone = float(np.nanmedian([run['compute'] for run in runs]))
        total = compute(results, name, budget)
        rows.append([
            Cell(name), _number(mean, '.2f'), _number(spread, '.2f'), _number(paired[0] if paired else np.nan, '+.2f'),
            Cell(f'{paired[1]:+.2f} to {paired[2]:+.2f}', paired[1]) if paired and np.isfinite(paired[1]) else Cell(''),
            Cell(str(len(values)), len(values)), Cell(str(runs[0]['epochs']), runs[0]['epochs']), _number(alone, '.0f'),
            _number(total if runs[0]['after'] else np.nan, '.0f')])
    return Table('Methods', ['method', 'top-1 (%)', '± sd', f'against {reference}', '95% interval', 'runs', 'epochs',
                             'compute (s)', 'with stage (s)'], rows, NOTE)


def runs_table(work_dir: str, results: Sequence[dict]) -> Table:
    """All reported runs, with links to their reports or folders."""
    rows = []
    for run in results:
        if run['tuning']:
            continue
        rows.append([
            Cell(run['name']), Cell(str(run['seed']), run['seed']), _number(run['accuracy'], '.2f'),
            _number(np.nan if run.get('best') is None else run['best'], '.2f'), Cell(str(run['epochs']), run['epochs']),
            _number(run['seconds'], '.0f'), _number(run['compute'], '.0f'), _link(work_dir, run)])
    return Table('Runs', ['method or stage', 'seed', 'top-1 (%)', 'best epoch (%)', 'epochs', 'seconds', 'compute (s)',
                          'report'], rows)


def choices_table(choices: Sequence[dict]) -> Table:
    """The settings that were tried for each method."""
    rows = []
    for choice in choices:
        settings = ', '.join(f'{option} = {number(value) if isinstance(value, float) else value}'
                             for option, value in choice['settings'].items())
        rows.append([Cell(choice['method']), Cell(settings), _number(choice['accuracy'], '.2f'),
                     Cell('yes' if choice['chosen'] else ''), Cell(choice['note'])])
    return Table('Settings that were tried', ['method', 'settings', 'top-1 on held-out images (%)', 'chosen', 'note'], rows)


def _link(work_dir: str, run: dict) -> Cell:
    folder = run.get('work_dir')
    for file, text in (('report.html', 'report'), ('', 'folder')):
        if folder and os.path.exists(os.path.join(work_dir, folder, file)):
            return Cell(text, None, '/'.join([*folder.split(os.sep), file]))
    return Cell('')


def _number(value: float, form: str) -> Cell:
    return Cell(format(value, form), float(value)) if np.isfinite(value) else Cell('')


def _rerun(work_dir: str, found: dict) -> list[Section]:
    parts: list[Part] = []
    if found.get('command'):
        parts.append(Code('The command; it skips finished trainings', found['command']))
    parts.append(Code('This report again, from the same files', f'python tools/report.py {shlex.quote(work_dir)}'))
    settings: list[Part] = []
    if found.get('config'):
        settings.append(Code('Benchmark', found['config'], folded=True))
    if found.get('versions'):
        settings.append(Table('Versions', ['', ''], [[Cell(name), Cell(value)] for name, value in
                                                          found['versions'].items()]))
    return [Section('Run it again', parts), *([Section('Config and versions', settings)] if settings else [])]
