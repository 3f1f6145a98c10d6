r"""The gradient of the held-out loss with respect to the pathways' weights, through one step of the student.

With :math:`\theta' = \theta - \mathrm{step}(g)` the step that training takes anyway, :math:`g` the gradient of the
training loss :math:`\mathrm{CE} + \sum_p w_p l_p`, and :math:`v = \nabla L_{val}(\theta')`,

.. math:: \frac{\partial L_{val}}{\partial w_p} = - \langle \nabla_\theta l_p(\theta), u \rangle
          = - \Bigl\langle \frac{\partial l_p}{\partial F_p}, \dot F_p \Bigr\rangle,
          \qquad u = \Bigl(\frac{\partial\, \mathrm{step}}{\partial g}\Bigr)^{\!\top} v

where :math:`F_p` is the feature that pathway p receives and :math:`\dot F_p` its directional derivative along u: the loss
of a pathway depends on the student through that feature alone. The sensitivities :math:`\partial l_p / \partial F_p` pass
by in the training step's own backward and are caught there, so transforms and teacher are not run again. One forward of
the student, up to its deepest receiving layer, gives all :math:`\dot F_p`, and with them the derivatives of all N pathways.
No second derivatives are needed. The transforms are not perturbed, because v is zero there.

Source: DistPro (ECCV 2022). Its release keeps the virtual step, adds the training gradient to v and takes a wrong
factor for Nesterov momentum; none of that is done here.
"""
import collections
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..checks import check_choice, check_number
from ..errors import ArgumentError, first_line
from ..random_state import without_side_effects
from .optimizer_step import StepSnapshot, check_differentiable, transposed

METHODS = ('auto', 'jvp', 'differences')


class Hypergradient:
    """Computes dL_val/dw around the student's own training step.

    Use: :meth:`watch` before the step, take the step as always, then :meth:`after_step`.

    Args:
        student (nn.Module): The student; only its trainable parameters are perturbed.
        optimizer (torch.optim.Optimizer): Its optimiser: SGD in any form, or any optimiser of torch that knows
            ``differentiable``.
        method (str): 'jvp': one exact forward-mode pass; 'differences': two plain passes; 'auto': 'jvp', and from the
            first operation on that has no forward mode 'differences'. Defaults to 'auto'.
        radius (float): Length of the perturbation of 'differences', > 0, in the units of the parameters. In float32 1e-2
            gives an error of about 1%, 1e-4 of 24% (rounding). Defaults to 1e-2.
        average (Callable, optional): Averages a list of tensors over processes in place. Defaults to None.

    Attributes:
        passes (collections.Counter): Student passes made so far: 'held_out_forward_backward', 'dual_forward',
            'plain_forward'.

    Raises:
        ArgumentError: If an argument is out of range or the optimiser cannot be differentiated.
    """

    def __init__(self, student: nn.Module, optimizer: torch.optim.Optimizer, method: str = 'auto',
                 radius: float = 1e-2, average: Callable[[list[Tensor]], None] | None = None) -> None:
        check_choice('method', method, METHODS)
        check_number('radius', radius, above=0)
        check_differentiable(optimizer)
        optimised = {id(p) for group in optimizer.param_groups for p in group['params']}
        self.names, self.parameters = [], []
        for name, parameter in student.named_parameters():
            if parameter.requires_grad and id(parameter) in optimised:
                self.names.append(name)
                self.parameters.append(parameter)
        if not self.parameters:
            raise ArgumentError('optimizer: the optimiser has no trainable parameter of the student')
        self.student = student
        self.optimizer = optimizer
        self.method = method
        self.radius = radius
        self.average = average or (lambda tensors: None)
        self.fallback_reason: str | None = None
        self.passes: collections.Counter = collections.Counter()
        self._before: StepSnapshot | None = None
        self._watching = False
        self._handle = optimizer.register_step_pre_hook(self._keep)

    def _keep(self, optimizer, args, kwargs) -> None:
        if self._watching:
            self._before = StepSnapshot(optimizer, self.parameters)
            self._watching = False

    def watch(self) -> None:
        """Keep the student's parameters when the optimiser makes its next step."""
        self._before = None
        self._watching = True

    def after_step(self, held_out_loss: Callable[[], Tensor], features: Callable[[Callable], dict[str, Tensor]],
                   sensitivities: Iterable[tuple[str, Tensor | None]]) -> Tensor | None:
        """The gradient of the held-out loss with respect to the weights of the step just taken.

        Both functions are run with the student's buffers and the random states kept.

        Args:
            held_out_loss (Callable): Gives L_val, a scalar with a graph, at the student's present parameters.
            features (Callable): Takes a stand-in for the student, to be called like it, and gives the features of the
                training batch by name, computed with the stand-in.
            sensitivities (Iterable): For each pathway the name of its feature and the derivative of its unweighted loss
                with respect to it, as in the training step, shaped like the feature; None where there is none.

        Returns:
            Tensor: dL_val/dw [N], float32 or wider; None if the optimiser made no step since :meth:`watch` (a loss
            scaler skips steps that overflow).
        """
        before, self._before, self._watching = self._before, None, False
        if before is None:
            return None
        full_precision = torch.autocast(self.parameters[0].device.type, enabled=False)
        with without_side_effects(self.student), full_precision, torch.enable_grad():
            v = torch.autograd.grad(held_out_loss(), self.parameters, allow_unused=True)
        self.passes['held_out_forward_backward'] += 1
        v = [torch.zeros_like(p) if g is None else g.detach() for g, p in zip(v, self.parameters)]
        self.average(v)
        u = [-c for c in transposed(self.optimizer, before, v).gradients]  # the step moves against it
        with without_side_effects(self.student), full_precision, torch.no_grad():
            tangents = self._tangents(before.theta, u, features)
        products = [tangents[name].new_zeros(()) if sensitivity is None else
                    torch.dot(sensitivity.flatten().to(tangents[name].dtype), tangents[name].flatten())
                    for name, sensitivity in sensitivities]
        derivative = torch.stack(products)
        self.average([derivative])
        return -derivative

    def _tangents(self, theta: list[Tensor], u: list[Tensor], features: Callable) -> dict[str, Tensor]:
        """Directional derivatives of the features at theta along u, shaped like the features."""
        if self.method != 'differences' and self.fallback_reason is None:
            try:
                return self._jvp(theta, u, features)
            except (NotImplementedError, RuntimeError) as error:
                if self.method == 'jvp' or not _lacks_forward_mode(error):
                    raise
                self.fallback_reason = first_line(error)
        return self._differences(theta, u, features)

    def _stand_in(self, parameters: Sequence[Tensor]) -> Callable:
        """The student with other parameters, to be called like it."""
        replaced = dict(zip(self.names, parameters))
        return lambda *args, **kwargs: torch.func.functional_call(self.student, replaced, args, kwargs)

    def _jvp(self, theta, u, features) -> dict[str, Tensor]:
        # Of torch's attention kernels the plain one alone has a forward mode.
        with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            duals = [forward_ad.make_dual(p, t) for p, t in zip(theta, u)]
            pairs = {name: forward_ad.unpack_dual(feature)
                     for name, feature in features(self._stand_in(duals)).items()}
            self.passes['dual_forward'] += 1
            return {name: torch.zeros_like(feature) if tangent is None else tangent.contiguous()
                    for name, (feature, tangent) in pairs.items()}

    def _differences(self, theta, u, features) -> dict[str, Tensor]:
        length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(u)))
        # Where the held-out loss is flat there is no direction, and whatever is multiplied by it is zero.
        epsilon = self.radius / length if length > 0 else length.new_ones(())
        above = features(self._stand_in([p + epsilon * t for p, t in zip(theta, u)]))
        below = features(self._stand_in([p - epsilon * t for p, t in zip(theta, u)]))
        self.passes['plain_forward'] += 2
        return {name: (above[name] - below[name]) / (2 * epsilon) for name in above}

    def close(self) -> None:
        """Leave the optimiser as it was."""
        self._handle.remove()


def _lacks_forward_mode(error: Exception) -> bool:
    """Whether torch says that an operation has no forward-mode derivative."""
    text = str(error)
    return 'forward AD' in text or 'jvp' in text or 'forward mode' in text
