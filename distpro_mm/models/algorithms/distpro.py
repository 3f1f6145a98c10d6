import contextlib
import copy
from typing import Callable, Dict, Iterator, List, Optional, Tuple

import torch
import torch.nn.functional as functional
from mmengine.logging import print_log
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...errors import ConfigError, first_line
from ...pathways import Pathway, TapReader, probe
from ..distillers.cost import OUT_OF_PROPORTION, cost
from ..losses.annotations import has_several_labels
from ..losses.one_label import ONE_LABEL, is_multi_label
from .tap_distill import TapDistill

LISTED = 5  # pathways that a warning names


@MODELS.register_module()
class DistPro(TapDistill):
    """Distils a student along weighted pathways; the model of DistPro's search and of its distillation runs.

    Pathways whose cost is out of proportion are named when it is built, before anything watches its forwards.

    Args:
        **kwargs: Of :class:`TapDistill`; the distiller is a :class:`DistProDistiller`.

    Example:
        >>> model = dict(
        ...     _scope_='mmrazor', type='DistPro',
        ...     architecture=dict(_scope_='mmpretrain', type='ImageClassifier', ...),
        ...     teacher=dict(_scope_='mmpretrain', type='ImageClassifier', ...),
        ...     teacher_ckpt='work_dirs/teacher/epoch_200.pth',
        ...     distiller=dict(type='DistProDistiller'))
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self._keep = False
        self._kept: Optional[tuple] = None
        self._warn_of_costs()

    def _transmit(self, batch_inputs: Tensor, data_samples: Optional[List]) -> Dict[str, Tensor]:
        features = super()._transmit(batch_inputs, data_samples)
        if self._keep:  # the student runs next, with these random states
            self._kept = (batch_inputs, data_samples, _random_states(batch_inputs.device))
        return features

    def _warn_of_costs(self) -> None:
        try:
            warnings = self._cost_warnings()
        except Exception as error:  # an estimate for a warning must not stop a training
            warnings = [f'The cost of the pathways cannot be estimated: {type(error).__name__}: {first_line(error)}']
        if warnings:
            print_log('\n'.join(warnings), 'current', 30)

    def pathway_costs(self) -> Tensor:
        """What each pathway adds to a training step, in steps of the student alone (forward and backward) [N].

        Of a student that cannot run without annotations, what extracts its features counts alone.
        """
        with _random_states_kept(self.distiller.alpha.device):
            return torch.tensor(self.distiller.costs()) / self._own_cost()

    def _own_cost(self) -> float:
        student = copy.deepcopy(self.student)
        return probe(student, self.input_shape, cost)

    def _cost_warnings(self) -> List[str]:
        """A sentence for each pathway out of proportion, dearest first, with what makes it cheaper and by how much."""
        distiller = self.distiller
        pathways = [pathway for pathway in distiller.pathways if pathway.name in distiller.transforms]
        with _random_states_kept(distiller.alpha.device):
            own = self._own_cost()
            costs = {pathway: seen / own for pathway, seen in zip(pathways, distiller.costs(pathways))}
            dear = sorted((pathway for pathway in pathways if costs[pathway] > OUT_OF_PROPORTION), key=costs.get)[::-1]
            warnings = []
            for pathway in dear[:LISTED]:
                changed = {settings: seen / own for settings, seen in distiller.changed_costs(pathway).items()}
                warnings.append(f"model.distiller: pathway '{pathway.name}' costs {costs[pathway]:.2f} training steps of "
                                f'the student alone (estimated): {_advice(pathway, costs[pathway], changed)}')
        if len(dear) > LISTED:
            warnings.append(f'model.distiller: {len(dear) - LISTED} more pathways cost over {OUT_OF_PROPORTION:g} steps '
                            'each; --profile lists all')
        return warnings

    def keep_batch(self, keep: bool) -> None:
        """Keep (or drop) what :meth:`kept_features` and the sensitivities need of the next training step."""
        self._keep, self._kept = keep, None
        self.distiller.catch_sensitivities(keep)

    def kept_features(self, student: Callable) -> Dict[str, Tensor]:
        """The student's features of the kept batch, computed anew up to the deepest receiving layer.

        The same function of the student's parameters as in the training step: same images, batch statistics and the
        random numbers of then.

        Args:
            student (Callable): The student or a stand-in for it that runs its modules with other parameters.

        Returns:
            dict[str, Tensor]: Features by layer, each [B, C, H, W].
        """
        batch_inputs, data_samples, states = self._kept
        _set_random_states(states, batch_inputs.device)
        with self.distiller.receiver_reader(self.student, stop_early=True) as reader:
            student(batch_inputs, data_samples, mode='tensor')
        return reader.features

    def training_loss(self, data: dict, parameters: Dict[str, Tensor], weights: Tensor) -> Tensor:
        """The loss of a training step, as a function of parameters and weights.

        Args:
            data (dict): A batch as a dataloader gives it.
            parameters (dict[str, Tensor]): Parameters by name, in place of the model's own.
            weights (Tensor): The pathways' weights [N].

        Returns:
            Tensor: The loss, a scalar with a graph to parameters and weights.
        """
        data = self.data_preprocessor(data, True)
        with self.distiller.weights_in_place(weights):
            losses = torch.func.functional_call(self, parameters, kwargs=dict(data, mode='loss'), args=())
        return self.parse_losses(losses)[0]

    def held_out_loss(self, data: dict, agreement: float = 0.0) -> Tensor:
        """What a search lowers: the student's own loss on a held-out batch, or its distance to the teacher.

        Args:
            data (dict): A batch as a dataloader gives it.
            agreement (float): Share, in [0, 1], of the Kullback-Leibler divergence of the student's class probabilities from
                the teacher's in the loss; the student's own loss has the rest. Needs pathways between logits where it is not
                0. Defaults to 0.

        Returns:
            Tensor: The loss, a scalar with a graph.

        Raises:
            ConfigError: If ``agreement`` is not 0 and images have several labels.
        """
        # Prepared as in training, where annotations are padded to the images' size; but nothing mixes images.
        with _without_batch_augments(self.data_preprocessor):
            data = self.data_preprocessor(data, True)
        if not agreement:
            return self.parse_losses(self.student(**data, mode='loss'))[0]
        if any(map(is_multi_label, (self.student, self.teacher))) or any(map(has_several_labels, data['data_samples'])):
            raise ConfigError(f'train_cfg.agreement={agreement}: {ONE_LABEL}; set it to 0')
        taps = self.distiller.logit_taps
        with TapReader(self.student, taps[1:]) as student:
            own = self.parse_losses(self.student(**data, mode='loss'))[0]
        with torch.no_grad(), TapReader(self.teacher, taps[:1]) as teacher:
            self.teacher(data['inputs'], data['data_samples'], mode='tensor')
        log_q, log_p = (reader.features['logits'].log_softmax(1) for reader in (student, teacher))
        return torch.lerp(own, functional.kl_div(log_q, log_p, reduction='batchmean', log_target=True), agreement)


def _advice(pathway: Pathway, own: float, changed: Dict[Tuple[str, ...], float]) -> str:
    """What lowers a pathway's cost by a tenth or more; several changes together only where none alone does enough."""
    alone = {settings: seen for settings, seen in changed.items() if len(settings) == 1}
    least = min(alone.values())
    if least > OUT_OF_PROPORTION:
        alone.update((settings, seen) for settings, seen in changed.items() if seen <= 0.9 * least)
    helps = [f'{" with ".join(settings)} makes that {alone[settings]:.2f}' for settings in sorted(alone, key=alone.get)
             if alone[settings] <= 0.9 * own]
    pair = pathway.transmitter.name, pathway.receiver.name
    return '; '.join([*helps, f'leaving {pair} out of connections saves it all'])


@contextlib.contextmanager
def _without_batch_augments(preprocessor: nn.Module) -> Iterator[None]:
    augments = getattr(preprocessor, 'batch_augments', None)
    if augments is None:
        yield
        return
    preprocessor.batch_augments = None
    try:
        yield
    finally:
        preprocessor.batch_augments = augments


@contextlib.contextmanager
def _random_states_kept(device: torch.device) -> Iterator[None]:
    states = _random_states(device)
    try:
        yield
    finally:
        _set_random_states(states, device)


def _random_states(device: torch.device) -> tuple:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == 'cuda' else None


def _set_random_states(states: tuple, device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if states[1] is not None:
        torch.cuda.set_rng_state(states[1], device)
