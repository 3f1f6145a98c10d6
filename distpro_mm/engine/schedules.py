"""Schedules of a training, scaled to another length."""


def scaled_schedule(schedule: dict, share: float) -> dict:
    """Scale a scheduler's or hook's lengths, whether they count epochs or iterations.

    Args:
        schedule (dict): Config with ``T_max``, ``begin``, ``end``, ``milestones``, ``step_size``, ``epochs`` or
            ``total_steps``.
        share (float): New length divided by the old one, > 0.

    Returns:
        dict: The config with each length multiplied by ``share``, rounded, at least 1 (0 stays 0).
    """
    scaled = dict(schedule)
    for key in ('T_max', 'begin', 'end', 'milestones', 'step_size', 'epochs', 'total_steps'):
        value = scaled.get(key)
        if isinstance(value, (list, tuple)):
            scaled[key] = [max(1, round(moment * share)) for moment in value]
        elif value:
            scaled[key] = max(1, round(value * share))
    return scaled
