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
import contextlib
import copy
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import ConfigError, first_line

METHODS = ('auto', 'jvp', 'differences')


@contextlib.contextmanager
def untouched(*modules: nn.Module) -> Iterator[None]:
    """Let forwards run in training mode without any lasting effect.

    Inside, the modules' buffers (running statistics among them) are copies; afterwards the true ones, which nothing has
    written to, are back, and so are the random states.

    Args:
        *modules (nn.Module): The modules whose buffers are kept.
    """
    owners = [(module, name, buffer) for root in modules for module in root.modules()
              for name, buffer in module._buffers.items() if buffer is not None]
    devices = {buffer.device for _, _, buffer in owners if buffer.is_cuda}
    with torch.random.fork_rng(devices=list(devices)):
        for module, name, buffer in owners:
            module._buffers[name] = buffer.clone()
        try:
            yield
        finally:
            for module, name, buffer in owners:
                module._buffers[name] = buffer


def step_transposed(optimizer: torch.optim.Optimizer, before: '_Before', v: Sequence[Tensor]) -> List[Tensor]:
    r"""The optimiser's step, differentiated by the gradient, transposed, times ``v``.

    SGD in closed form: ``lr * v``, with Nesterov momentum ``lr * (1 + momentum) * v``. Any other optimiser of
    ``torch.optim`` that can be differentiated: exactly, by taking its own step once more on copies.

    Args:
        optimizer (torch.optim.Optimizer): The optimiser that took the step.
        before (_Before): What was kept just before the step.
        v (Sequence[Tensor]): One tensor a kept parameter.

    Returns:
        list[Tensor]: u, shaped like ``v``; the step moves against it.
    """
    if isinstance(optimizer, torch.optim.SGD):
        return [_sgd_factor(group, had_buffer) * vector
                for vector, group, had_buffer in zip(v, before.groups, before.had_buffer)]
    return _replayed_step_transposed(optimizer, before, v)


def _sgd_factor(group: dict, had_buffer: bool) -> float:
    """d step / d g of torch's SGD, which is the same for every element."""
    factor = float(group['lr']) * (-1 if group['maximize'] else 1)
    if not group['momentum']:
        return factor
    if group['nesterov']:
        return factor * (1 + group['momentum'])
    # The first step of torch's SGD takes the gradient whole into the buffer, whatever the dampening.
    return factor * (1 - group['dampening']) if had_buffer else factor


def _replayed_step_transposed(optimizer, before, v) -> List[Tensor]:
    """Take the optimiser's own step again on copies, with autograd through it."""
    shadow = copy.copy(optimizer)
    shadow._optimizer_step_pre_hooks = collections.OrderedDict()
    shadow._optimizer_step_post_hooks = collections.OrderedDict()
    shadow.defaults = {**optimizer.defaults, 'differentiable': True}
    shadow.param_groups, shadow.state = [], collections.defaultdict(dict)
    parameters, gradients = [], []
    for theta, gradient, state, group in zip(before.theta, before.gradients, before.states, before.groups):
        parameter = theta.clone()
        gradient = (torch.zeros_like(theta) if gradient is None else gradient).clone().requires_grad_()
        parameter.grad = gradient
        # torch counts steps in float32; a differentiable step computes Adam's bias correction from that in float32.
        shadow.state[parameter] = {key: value.double() if key == 'step' and isinstance(value, Tensor) else value
                                   for key, value in _cloned(state).items()}
        shadow.param_groups.append({**group, 'params': [parameter], 'differentiable': True, 'foreach': False,
                                    'fused': None, 'capturable': False})
        parameters.append(parameter)
        gradients.append(gradient)
    # The class's own step without the wrappers that an lr scheduler puts on the instance.
    type(optimizer).step(shadow)
    transposed = torch.autograd.grad(parameters, gradients, [-vector for vector in v], allow_unused=True)
    # An element whose gradient has always been exactly 0 sits at the kink of the square root in Adam's step: it has no
    # derivative, and no pathway moves it, so it counts nothing.
    return [torch.zeros_like(vector) if u is None else torch.nan_to_num(u, nan=0.0, posinf=0.0, neginf=0.0)
            for u, vector in zip(transposed, v)]


def _cloned(state: Dict) -> Dict:
    """An optimiser's state of one parameter, with tensors of its own."""
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}


class _Before:
    """The parameters, and what else the derivative of the step needs, just before the step."""

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> None:
        group_of = {id(p): group for group in optimizer.param_groups for p in group['params']}
        closed_form = isinstance(optimizer, torch.optim.SGD)
        self.theta = [p.detach().clone() for p in parameters]
        self.groups = [{k: value for k, value in group_of[id(p)].items() if k != 'params'} for p in parameters]
        self.had_buffer = [optimizer.state.get(p, {}).get('momentum_buffer') is not None for p in parameters]
        self.gradients: List[Optional[Tensor]] = []
        self.states: List[Dict] = []
        if not closed_form:
            self.gradients = [None if p.grad is None else p.grad.detach().clone() for p in parameters]
            self.states = [_cloned(optimizer.state.get(p, {})) for p in parameters]


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
        ConfigError: If an argument is out of range or the optimiser cannot be differentiated.
    """

    def __init__(self, student: nn.Module, optimizer: torch.optim.Optimizer, method: str = 'auto',
                 radius: float = 1e-2, average: Optional[Callable[[List[Tensor]], None]] = None) -> None:
        if method not in METHODS:
            raise ConfigError(f"train_cfg.method='{method}' is not one of {', '.join(METHODS)}")
        if not radius > 0:
            raise ConfigError(f'train_cfg.radius={radius} must be above 0')
        if not isinstance(optimizer, torch.optim.SGD) and 'differentiable' not in optimizer.defaults:
            raise ConfigError(f"optim_wrapper.optimizer.type='{type(optimizer).__name__}' cannot be differentiated, which "
                             'the search needs: use SGD, Adam, AdamW, NAdam, RAdam, Adamax, RMSprop, Adagrad or Adadelta')
        optimised = {id(p) for group in optimizer.param_groups for p in group['params']}
        self.names, self.parameters = [], []
        for name, parameter in student.named_parameters():
            if parameter.requires_grad and id(parameter) in optimised:
                self.names.append(name)
                self.parameters.append(parameter)
        if not self.parameters:
            raise ConfigError('optim_wrapper: the optimiser has no trainable parameter of the student')
        self.student = student
        self.optimizer = optimizer
        self.method = method
        self.radius = radius
        self.average = average or (lambda tensors: None)
        self.fallback_reason: Optional[str] = None
        self.passes: collections.Counter = collections.Counter()
        self._before: Optional[_Before] = None
        self._watching = False
        self._handle = optimizer.register_step_pre_hook(self._keep)

    def _keep(self, optimizer, args, kwargs) -> None:
        if self._watching:
            self._before = _Before(optimizer, self.parameters)
            self._watching = False

    def watch(self) -> None:
        """Keep the student's parameters when the optimiser makes its next step."""
        self._before = None
        self._watching = True

    def after_step(self, held_out_loss: Callable[[], Tensor], features: Callable[[Callable], Dict[str, Tensor]],
                   sensitivities: Iterable[Tuple[str, Optional[Tensor]]]) -> Optional[Tensor]:
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
        with untouched(self.student), full_precision, torch.enable_grad():
            v = torch.autograd.grad(held_out_loss(), self.parameters, allow_unused=True)
        self.passes['held_out_forward_backward'] += 1
        v = [torch.zeros_like(p) if g is None else g.detach() for g, p in zip(v, self.parameters)]
        self.average(v)
        u = step_transposed(self.optimizer, before, v)
        with untouched(self.student), full_precision, torch.no_grad():
            tangents = self._tangents(before.theta, u, features)
        products = [tangents[name].new_zeros(()) if sensitivity is None else
                    torch.dot(sensitivity.flatten().to(tangents[name].dtype), tangents[name].flatten())
                    for name, sensitivity in sensitivities]
        derivative = torch.stack(products)
        self.average([derivative])
        return -derivative

    def _tangents(self, theta: List[Tensor], u: List[Tensor], features: Callable) -> Dict[str, Tensor]:
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

    def _jvp(self, theta, u, features) -> Dict[str, Tensor]:
        # Of torch's attention kernels the plain one alone has a forward mode.
        with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            duals = [forward_ad.make_dual(p, t) for p, t in zip(theta, u)]
            pairs = {name: forward_ad.unpack_dual(feature)
                     for name, feature in features(self._stand_in(duals)).items()}
            self.passes['dual_forward'] += 1
            return {name: torch.zeros_like(feature) if tangent is None else tangent.contiguous()
                    for name, (feature, tangent) in pairs.items()}

    def _differences(self, theta, u, features) -> Dict[str, Tensor]:
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
