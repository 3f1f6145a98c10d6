"""Schedules of a training, scaled to another length."""


def scaled_schedule(schedule: dict, share: float) -> dict:
    """Scale a scheduler's or hook's lengths, whether they count epochs or iterations.

    Args:
        schedule (dict): Config with ``T_max``, ``begin``, ``end``, ``milestones``, ``step_size``, ``epochs`` or
            ``total_steps``.
        share (float): New length divided by the old one, > 0.

    Returns:
        dict: The config with each length multiplied by ``share``, rounded, at least 1 (0 stays 0). A schedule that had two
        steps or more between ``begin`` and ``end`` keeps two: mmengine's warm-ups never rise within one.
    """
    scaled = dict(schedule)
    for key in ('T_max', 'begin', 'end', 'milestones', 'step_size', 'epochs', 'total_steps'):
        value = scaled.get(key)
        if isinstance(value, (list, tuple)):
            scaled[key] = [max(1, round(moment * share)) for moment in value]
        elif value:
            scaled[key] = max(1, round(value * share))
    if scaled.get('end'):
        begin = scaled.get('begin') or 0
        scaled['end'] = max(scaled['end'], begin + min(2, schedule['end'] - (schedule.get('begin') or 0)))
    return scaled
