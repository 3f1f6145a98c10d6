"""Weightings: the maps from the free parameters alpha in R^N to the weights w in R^N of the pathways."""
import inspect
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .checks import brief, check_choice, check_that, is_function, nearest, register
from .errors import ArgumentError, argument_prefix, is_number

OFF = -60.0  # alpha at which exponential switches a pathway off

UNITS = ('variance', 'loss')

WEIGHTINGS: dict[str, Callable[..., Tensor]] = {}


def register_weighting(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Register a function from alpha to weights under its name; a decorator.

    Args:
        function (Callable): ``function(alpha, **parameters)`` returns weights [N], differentiable in alpha [N]. Parameters
            are finite numbers with default values. They are written to the process file.

    Raises:
        ArgumentError: If it has another signature, or its name is that of another weighting.

    Example:
        >>> @distpro.register_weighting
        ... def squared(alpha, offset=0.0):
        ...     return (alpha + offset)**2
        >>> distpro.Weighting('squared', offset=0.1)
    """
    check_that('function', function, is_function(function) and hasattr(function, '__name__'), 'a function with a name')
    alpha, *others = inspect.signature(function).parameters.values()
    wrong = [parameter.name for parameter in others
             if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
             or not is_number(parameter.default)]
    if alpha.kind not in (alpha.POSITIONAL_ONLY, alpha.POSITIONAL_OR_KEYWORD) or wrong:
        raise ArgumentError(f'{function.__name__}{inspect.signature(function)}: a weighting has alpha and then parameters '
                            f'with numbers as default values, such as (alpha, {(wrong or ["offset"])[0]}=1.0)')
    register(WEIGHTINGS, function)
    return function


@register_weighting
def uniform(alpha: Tensor) -> Tensor:
    """w_p = 1 for every alpha, so a search has no effect."""
    return torch.ones_like(alpha) + 0 * alpha


@register_weighting
def softmax(alpha: Tensor) -> Tensor:
    """w_p = exp a_p / sum_q exp a_q."""
    return alpha.softmax(0)


@register_weighting
def biased_softmax(alpha: Tensor, bias: float = 1.0) -> Tensor:
    """w_p = exp a_p / (exp b + sum_q exp a_q): the sum stays under 1, so every pathway can be switched off."""
    return torch.cat([alpha.new_full((1, ), bias), alpha]).softmax(0)[1:]


@register_weighting
def sigmoid(alpha: Tensor) -> Tensor:
    """w_p = 1 / (1 + exp(-a_p))."""
    return alpha.sigmoid()


@register_weighting
def absolute(alpha: Tensor) -> Tensor:
    """w_p = abs a_p."""
    return alpha.abs()


@register_weighting
def normalised_absolute(alpha: Tensor) -> Tensor:
    """w_p = 3 abs a_p / sum_q abs a_q."""
    return 3 * alpha.abs() / alpha.abs().sum()


@register_weighting
def bounded_absolute(alpha: Tensor) -> Tensor:
    """w_p = 10 abs a_p / (1 + sum_q abs a_q)."""
    return 10 * alpha.abs() / (1 + alpha.abs().sum())


def log_weights(weights: np.ndarray) -> np.ndarray:
    """np.ndarray: alpha at which exponential gives these weights >= 0; ``OFF`` for 0."""
    return np.log(weights, out=np.full(weights.shape, OFF), where=weights > math.exp(OFF))


@register_weighting
def exponential(alpha: Tensor) -> Tensor:
    """w_p = exp a_p: the total weight is free, unlike in normalised weightings; 0 for alpha <= -60."""
    return torch.where(alpha > OFF, alpha.exp(), torch.zeros_like(alpha))


class Weighting:
    """A map from alpha to the pathways' weights, times a constant.

    The functions and their constants are those of DistPro's release (ECCV 2022), styles 0 to 6. The release's style 333 is
    ``biased_softmax`` with ``scale='num_pathways'``. ``exponential`` is not in the release.

    Args:
        type (str): One of :data:`WEIGHTINGS`, see :func:`register_weighting`. Defaults to 'biased_softmax'.
        scale (float or str): Constant factor > 0, or 'num_pathways' for N. Defaults to 1.
        kd_weight (float): A further factor > 0. Defaults to 1.
        initial_alpha (float, optional): Initial value of alpha. Defaults to None: 0 for ``exponential``, else 1.
        unit (str, optional): Unit of the weights. 'variance': the teacher's features are divided by their standard
            deviation, the feature losses are averaged over the feature pathways and the logit losses over the logit
            pathways. A weight then does not depend on the number of pathways or the scale of the features. 'loss': the
            weighted losses are summed. Defaults to None: 'variance' for ``exponential``, else 'loss', the
            release's.
        **parameters (float): Parameters of the function, e.g. ``bias`` of ``biased_softmax``. Default to the function's
            default values.

    Raises:
        ArgumentError: If an argument is out of range or unknown.
    """

    def __init__(self, type: str = 'biased_softmax', scale: float | str = 1.0, kd_weight: float = 1.0,
                 initial_alpha: float | None = None, unit: str | None = None, **parameters: float) -> None:
        check_choice('type', type, tuple(WEIGHTINGS))
        if scale != 'num_pathways' and not (is_number(scale) and scale > 0):
            raise ArgumentError(f"scale={scale!r} is neither a number above 0 nor 'num_pathways'")
        known = parameters_of(type)
        for name, value in (('kd_weight', kd_weight), *parameters.items()):
            if name != 'kd_weight' and name not in known:
                raise ArgumentError(f'{name}={value!r} is not a parameter of {type}, which has {", ".join(known) or "none"}'
                                    + nearest(name, [*known, 'type', 'scale', 'kd_weight', 'initial_alpha', 'unit']))
            if not is_number(value) or name == 'kd_weight' and value <= 0:
                raise ArgumentError(f'{name}={value!r} is not a finite number{" above 0" * (name == "kd_weight")}')
        if initial_alpha is None:
            initial_alpha = 0.0 if type == 'exponential' else 1.0
        elif not is_number(initial_alpha):
            raise ArgumentError(f'initial_alpha={initial_alpha!r} is not a finite number')
        check_choice('unit', unit, (None, *UNITS))
        if unit is None:
            unit = 'variance' if type == 'exponential' else 'loss'
        self.type, self.scale, self.kd_weight, self.unit = type, scale, kd_weight, unit
        self.initial_alpha, self.parameters = initial_alpha, {**known, **parameters}
        with torch.enable_grad():
            weights = self(self.start(3).requires_grad_())
        if not isinstance(weights, Tensor) or weights.shape != (3, ) or not weights.requires_grad:
            raise ArgumentError(f'type={type!r} must give weights [N] that are differentiable in alpha [N], one for each '
                                f'pathway; for alpha [3] it gives {brief(weights)}')

    def __call__(self, alpha: Tensor) -> Tensor:
        """Weights of the pathways.

        Args:
            alpha (Tensor): Free parameters [N].

        Returns:
            Tensor: Weights [N], differentiable in alpha.
        """
        scale = alpha.numel() if self.scale == 'num_pathways' else float(self.scale)
        return scale * self.kd_weight * WEIGHTINGS[self.type](alpha, **self.parameters)

    def start(self, num_pathways: int) -> Tensor:
        """Tensor: alpha [N] at the start of a search."""
        return torch.full((num_pathways, ), float(self.initial_alpha))

    def to_dict(self) -> dict:
        """dict: The arguments of this weighting, with those of the function under 'parameters'."""
        return dict(type=self.type, scale=self.scale, kd_weight=self.kd_weight, initial_alpha=self.initial_alpha,
                    unit=self.unit, parameters=self.parameters)

    @classmethod
    def from_dict(cls, data: dict) -> 'Weighting':
        """Build a weighting from the result of :meth:`to_dict`."""
        data = dict(data)
        return cls(**data.pop('parameters', {}), **data)


def as_weighting(given: Weighting | str | dict | None) -> Weighting:
    """A weighting from its name or its arguments, as configs have them.

    Args:
        given (Weighting, str, dict or None): A weighting; its name; or its arguments, where ``biased_softmax`` is the
            default type and has the release's scale, the number of pathways. None: ``exponential``.

    Raises:
        ArgumentError: If it is none of these, or an argument is out of range.
    """
    if isinstance(given, Weighting):
        return given
    given = dict(type='exponential') if given is None else dict(type=given) if isinstance(given, str) else given
    check_that('weighting', given, isinstance(given, dict), "a Weighting, a name such as 'exponential', or a dict of both "
               "type and parameters, such as dict(type='exponential')")
    scale = dict(scale='num_pathways') if given.get('type', 'biased_softmax') == 'biased_softmax' else {}
    with argument_prefix('weighting.'):
        return Weighting(**{**scale, **given})


def parameters_of(type: str) -> dict[str, float]:
    """dict[str, float]: Parameters of a registered function and their default values."""
    arguments = list(inspect.signature(WEIGHTINGS[type]).parameters.values())[1:]
    return {argument.name: argument.default for argument in arguments}
