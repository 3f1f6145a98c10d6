"""Weightings: the maps from the free parameters alpha in R^N to the weights w in R^N of the pathways."""
import difflib
from typing import Callable, Dict, Optional, Union

import torch
from torch import Tensor

from .errors import ArgumentError, is_number

OFF = -60.0  # alpha at which exponential switches a pathway off

UNITS = ('variance', 'loss')

_FORMS: Dict[str, Callable[..., Tensor]] = {}


def _form(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    _FORMS[function.__name__] = function
    return function


@_form
def uniform(alpha: Tensor) -> Tensor:
    """w_p = 1, whatever alpha: a search moves nothing."""
    return torch.ones_like(alpha) + 0 * alpha


@_form
def softmax(alpha: Tensor) -> Tensor:
    """w_p = exp a_p / sum_q exp a_q."""
    return alpha.softmax(0)


@_form
def biased_softmax(alpha: Tensor, bias: float = 1.0) -> Tensor:
    """w_p = exp a_p / (exp b + sum_q exp a_q): the sum stays under 1, so every pathway can be switched off."""
    return torch.cat([alpha.new_full((1, ), bias), alpha]).softmax(0)[1:]


@_form
def sigmoid(alpha: Tensor) -> Tensor:
    """w_p = 1 / (1 + exp(-a_p))."""
    return alpha.sigmoid()


@_form
def absolute(alpha: Tensor) -> Tensor:
    """w_p = abs a_p."""
    return alpha.abs()


@_form
def normalised_absolute(alpha: Tensor) -> Tensor:
    """w_p = 3 abs a_p / sum_q abs a_q."""
    return 3 * alpha.abs() / alpha.abs().sum()


@_form
def bounded_absolute(alpha: Tensor) -> Tensor:
    """w_p = 10 abs a_p / (1 + sum_q abs a_q)."""
    return 10 * alpha.abs() / (1 + alpha.abs().sum())


@_form
def exponential(alpha: Tensor) -> Tensor:
    """w_p = exp a_p: free in its total, which a normalised weighting cannot find; 0 at an alpha of -60 or less."""
    return torch.where(alpha > OFF, alpha.exp(), torch.zeros_like(alpha))


class Weighting:
    """A map from alpha to the pathways' weights, times a constant.

    The forms and their numbers are those of DistPro's release (ECCV 2022), which numbers them as styles 0 to 6; its
    style 333 is ``biased_softmax`` with ``scale='num_pathways'``. ``exponential`` is ours.

    Args:
        type (str): One of ``Weighting.TYPES``. Defaults to 'biased_softmax'.
        scale (float or str): Constant factor > 0, or 'num_pathways' for N. Defaults to 1.
        kd_weight (float): A further factor > 0. Defaults to 1.
        bias (float): b of ``biased_softmax``. Defaults to 1.
        initial_alpha (float, optional): Where alpha starts. Defaults to None: 0 for ``exponential``, else 1.
        unit (str, optional): What a weight of 1 on all pathways means. 'variance': the teacher's features are divided
            by their standard deviation, the feature losses are averaged over the feature pathways and the logit losses over
            the logit pathways, so that a weight does not depend on the number of pathways or the scale of the features.
            'loss': the sum of the losses as they are. Defaults to None: 'variance' for ``exponential``, else 'loss', the
            release's.

    Raises:
        ArgumentError: If an argument is out of range.
    """
    TYPES = tuple(_FORMS)

    def __init__(self, type: str = 'biased_softmax', scale: Union[float, str] = 1.0, kd_weight: float = 1.0,
                 bias: float = 1.0, initial_alpha: Optional[float] = None, unit: Optional[str] = None) -> None:
        if not isinstance(type, str) or type not in _FORMS:
            nearest = difflib.get_close_matches(str(type), self.TYPES, n=1)
            hint = f' (nearest: {nearest[0]})' if nearest else ''
            raise ArgumentError(f"type='{type}' is not one of {', '.join(self.TYPES)}{hint}")
        if scale != 'num_pathways' and not (is_number(scale) and scale > 0):
            raise ArgumentError(f"scale={scale!r} is neither a number above 0 nor 'num_pathways'")
        for name, value in (('kd_weight', kd_weight), ('bias', bias)):
            if not is_number(value) or name == 'kd_weight' and value <= 0:
                raise ArgumentError(f'{name}={value!r} is not a finite number{" above 0" * (name == "kd_weight")}')
        if initial_alpha is None:
            initial_alpha = 0.0 if type == 'exponential' else 1.0
        elif not is_number(initial_alpha):
            raise ArgumentError(f'initial_alpha={initial_alpha!r} is not a finite number')
        if unit is None:
            unit = 'variance' if type == 'exponential' else 'loss'
        elif unit not in UNITS:
            raise ArgumentError(f"unit={unit!r} is not one of {', '.join(UNITS)}")
        self.type, self.scale, self.kd_weight, self.bias, self.unit = type, scale, kd_weight, bias, unit
        self.initial_alpha = initial_alpha

    def __call__(self, alpha: Tensor) -> Tensor:
        """Weights of the pathways.

        Args:
            alpha (Tensor): Free parameters [N].

        Returns:
            Tensor: Weights [N], differentiable in alpha.
        """
        arguments = dict(bias=self.bias) if self.type == 'biased_softmax' else {}
        scale = alpha.numel() if self.scale == 'num_pathways' else self.scale
        return scale * self.kd_weight * _FORMS[self.type](alpha, **arguments)

    def start(self, num_pathways: int) -> Tensor:
        """Tensor: alpha [N] at the start of a search."""
        return torch.full((num_pathways, ), float(self.initial_alpha))

    def to_dict(self) -> dict:
        """dict: The arguments that build this weighting again."""
        return dict(type=self.type, scale=self.scale, kd_weight=self.kd_weight, bias=self.bias,
                    initial_alpha=self.initial_alpha, unit=self.unit)
