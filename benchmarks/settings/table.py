"""The table of the benchmark of unlike settings."""
import math
from collections.abc import Sequence
from typing import Any

from distpro_mm.reporting.table import markdown, paired_difference

ABOVE_CHANCE = 1.2  # times the chance level counts as chance level


def table(benches: Sequence[Any], methods: Sequence[str]) -> str:
    """Markdown table with one row per setting.

    Args:
        benches (Sequence[Bench]): The settings.
        methods (Sequence[str]): The columns.
    """
    rows = [['setting', 'pathways', 'teacher', *methods, 'against the better of student and KD', '95% interval',
             'search found']]
    for bench in benches:
        results = bench.results()
        scores: dict[str, dict[int, float]] = {}
        for result in results:
            if result['accuracy'] is not None:
                scores.setdefault(result['method'], {})[result['seed']] = result['accuracy']
        if 'student' not in scores:
            continue
        mean = {method: sum(found.values()) / len(found) for method, found in scores.items()}
        search = next((result for result in results if result['method'] == 'search'), {})
        better = max((method for method in ('student', 'kd') if method in mean), key=mean.get)
        paired = paired_difference(scores['distpro'], scores[better]) if 'distpro' in scores else None
        chance = 100 / bench.setting.classes
        cells = [f'{mean[method]:.1f}' + ' (chance)' * (mean[method] < ABOVE_CHANCE * chance) if method in mean else ''
                 for method in methods]
        rows.append([bench.name, str(search.get('pathways', '')), f'{mean.get("teacher", math.nan):.1f}', *cells,
                     f'{paired[0]:+.1f}' if paired else '', f'{paired[1]:+.1f} to {paired[2]:+.1f}' if paired else '',
                     search.get('origin', {}).get('best', search.get('failed') or '')])
    return markdown(rows)
