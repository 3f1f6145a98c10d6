from collections.abc import Iterable
from typing import Any

from mmengine.model import BaseModel
from mmrazor.registry import MODELS
from torch import Tensor, nn

from distpro.pathways.names import LABEL, is_label

from ...errors import ConfigError
from ..classifiers import ModuleClassifier


class SeveralTeachers(BaseModel):
    """The teachers of a :class:`.DistPro` that has several, by name.

    Args:
        networks (dict[str, BaseModel]): The teachers.
    """

    def __init__(self, networks: dict[str, BaseModel]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)

    def init_weights(self) -> None:
        """Initialise the teachers that are not loaded."""
        for network in self.networks.values():
            if not network.is_init:
                network.init_weights()
        self._is_init = True

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor') -> dict[str, Any]:
        """dict[str, Any]: What each teacher returns."""
        return {name: network(inputs, data_samples, mode=mode) for name, network in self.networks.items()}


def as_model(network: dict | str | nn.Module) -> dict | nn.Module:
    """A network as a model of mmengine, or its config."""
    if isinstance(network, str):
        return dict(type='mmrazor.NamedClassifier', name=network)
    return ModuleClassifier(network) if isinstance(network, nn.Module) and not isinstance(network, BaseModel) else network


def are_several(teacher: Any) -> bool:
    """Whether ``model.teacher`` has several teachers by name: a dict that is not the config of a network."""
    return isinstance(teacher, dict) and not {'type', 'cfg_path'} & set(teacher)


def build_several(teachers: dict[str, dict | str | nn.Module]) -> SeveralTeachers:
    """Build several teachers.

    Args:
        teachers (dict): By name: the teacher, its config, or its name, see :class:`.NamedClassifier`.

    Raises:
        ConfigError: If there are fewer than two, or one has no proper name or is not a model.
    """
    if len(teachers) < 2:
        raise ConfigError(f'model.teacher={dict(teachers)} must have a type, or be a dict of two or more teachers by name')
    built = {}
    for name, network in teachers.items():
        key = f'model.teacher.{name}'
        if not is_label(name):
            raise ConfigError(f'model.teacher: the name {name!r} of a teacher must be {LABEL}')
        network = as_model(network)
        if isinstance(network, dict):
            if 'type' not in network:
                raise ConfigError(f'{key}={dict(network)} has no type: model.teacher without a type has several teachers by '
                                  'name, each the config of a model')
            network = MODELS.build(network)
        if not isinstance(network, BaseModel):
            raise ConfigError(f'{key} is a {type(network).__name__}, which is not a model such as ImageClassifier: '
                              'model.teacher without a type has several teachers by name')
        built[name] = network
    return SeveralTeachers(built)


def by_teacher(key: str, value: Any, names: Iterable[str]) -> dict[str, Any]:
    """The value of an argument for each teacher.

    Args:
        key (str): Its config key.
        value (Any): Of one teacher, whose name is '', the value itself; of several a dict by name, or None.
        names (Iterable[str]): Names of the teachers.

    Returns:
        dict[str, Any]: By name; None where nothing is given.

    Raises:
        ConfigError: If the value is not a dict by name of several teachers, or a name is unknown.
    """
    names = list(names)
    if names == ['']:
        return {'': value}
    if value is not None and not (isinstance(value, dict) and set(value) <= set(names)):
        raise ConfigError(f'{key}={value!r} must be a dict with some of the teachers {", ".join(names)}')
    return {name: (value or {}).get(name) for name in names}
