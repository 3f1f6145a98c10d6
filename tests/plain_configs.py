"""The unformatted text of a config. Formatting takes longer than a few iterations."""


def plain_text(config):
    return '\n'.join(f'{key} = {value!r}' for key, value in config._cfg_dict.to_dict().items())
