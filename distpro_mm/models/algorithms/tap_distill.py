import collections
import functools
from collections.abc import Sequence

import torch
from mmengine.logging import print_log
from mmpretrain.models import BaseClassifier
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.models.utils import add_prefix
from mmrazor.registry import MODELS
from torch import Tensor, nn

from distpro.checks import FLAG, check_arguments, check_choice
from distpro.errors import argument_prefix
from distpro.networks import model_input
from distpro.teachers import taps_of
from distpro.tracing import FastForward, in_place_off, probe_input, trace

from ...config_types import checked, class_of
from ...errors import ConfigError
from ..checkpoints import load_strict
from ..distillers.tap_distiller import TapDistiller
from ..losses.one_label import refuse_recorded_one_label
from ..probing import probe
from .several_teachers import SeveralTeachers, are_several, as_model, build_several, by_teacher
from .teacher_input import teacher_input as images_for_teacher

FLAGS = ('teacher_trainable', 'teacher_norm_eval', 'student_trainable', 'calculate_student_loss')  # of mmrazor's class


@MODELS.register_module()
class TapDistill(SingleTeacherDistill):
    """Distils a student with features that are read at taps. Probing both models finds the taps and their shapes.

    The teacher runs once per batch, only if needed, without its loss and with all modules in eval mode (also dropout and
    drop-path). In-place operations are disabled in both models, so that later layers do not overwrite features.

    Args:
        distiller (dict): Config of a :class:`TapDistiller`, e.g. :class:`PairDistiller`, or :class:`RecorderDistiller` for
            losses without features.
        teacher (dict, str or nn.Module): The teacher, its config, or its name, see :class:`NamedClassifier`. A module that
            is not of mmengine becomes a :class:`ModuleClassifier`. A dict without ``type`` has several teachers by names of
            your own, which a :class:`DistProDistiller` compares: ``teacher_ckpt`` and ``teacher_input`` are dicts by name
            too, and pathways are named ``<teacher>:<layer>>...``.
        architecture (dict, str or nn.Module): The student, as for the teacher.
        teacher_ckpt (str or dict, optional): The teacher's checkpoint, file or URL, with all weights of the teacher.
            Defaults to None, which logs a warning that the teacher is untrained.
        input_shape (Sequence[int], optional): [C, H, W] of the images that probe both models. Defaults to None: C is the
            number of input channels of the first convolution, and H and W are the model's ``img_size``, or 64.
        teacher_input (dict, optional): Preprocessing of the teacher's images where it differs from the student's: any of
            ``mean``, ``std``, ``to_rgb`` and ``size`` [H, W]. Each batch is converted once. Defaults to None: the
            ``data_preprocessor`` of the teacher's config, or the images of a named teacher's published weights.
        fast_teacher (bool or str): True: batch norms of the teacher are folded into convolutions, and on devices with units
            for bfloat16 it runs in this type (features differ by some 1%), on a GPU as a CUDA graph. 'exact': in its own
            type and without a graph, which changes rounding only. False: the teacher as it is. Defaults to True. See
            :class:`distpro.tracing.FastForward`.
        **kwargs: Arguments of :class:`~mmrazor.models.SingleTeacherDistill`. Only :class:`ATSC` trains the teacher.

    Attributes:
        passes (collections.Counter): Forwards of 'teacher' and 'student' made in training steps.
        trains_teacher (bool): Whether the class trains the teacher too; ``teacher_trainable`` must have this value.

    Raises:
        ConfigError: If an argument is out of range, the checkpoint is missing or does not fit, or the layers do not fit the
            models.
    """

    trains_teacher = False

    def __init__(self, distiller: dict, teacher: dict | str | nn.Module, architecture: dict | str | nn.Module,
                 teacher_ckpt: str | dict[str, str] | None = None, input_shape: Sequence[int] | None = None,
                 teacher_input: dict | None = None, fast_teacher: bool | str = True, **kwargs) -> None:
        for flag in FLAGS:
            check_choice(f'model.{flag}', kwargs.get(flag, False), FLAG, ConfigError)
        if kwargs.setdefault('teacher_trainable', self.trains_teacher) is not self.trains_teacher:
            how = 'trained; SimKD has a fixed one' if self.trains_teacher else 'fixed'
            raise ConfigError(
                f'model.teacher_trainable={not self.trains_teacher}: the teacher of {type(self).__name__} is {how}')
        check_arguments(SingleTeacherDistill, ['distiller', 'teacher', 'architecture', *kwargs], 'model',
                        ConfigError)
        distiller = checked(distiller, 'model.distiller')
        architecture = as_model(architecture)
        given = teacher if are_several(teacher) else {'': as_model(teacher)}
        recorded = [key for key in ('teacher_recorders', 'distill_deliveries') if distiller.get(key)]
        if recorded and '' not in given:
            raise ConfigError(f'model.distiller.{recorded[0]} is for one teacher, and model.teacher has several')
        preprocessor = kwargs.get('data_preprocessor')
        if isinstance(preprocessor, dict) and isinstance(architecture, dict) and class_of(preprocessor.get('type')) is None:
            # The type is of the student's toolbox: the student builds the preprocessor, and mmrazor uses the student's.
            architecture = type(architecture)(architecture, data_preprocessor=kwargs.pop('data_preprocessor'))
        super().__init__(distiller=distiller, teacher=given[''] if '' in given else build_several(given),
                         architecture=architecture, **kwargs)
        if not isinstance(self.distiller, TapDistiller):
            raise ConfigError(f'model.distiller.type={type(self.distiller).__name__} is not one of {type(self).__name__}: '
                              "use RecorderDistiller for recorders and losses, or model.type='SingleTeacherDistill'")
        if '' not in self.teachers and not self.distiller.several_teachers:
            raise ConfigError(f'model.teacher has several teachers, and {type(self.distiller).__name__} compares one: give '
                              'one of them, or a DistProDistiller')
        checkpoints, inputs = (by_teacher(f'model.{key}', value, self.teachers) for key, value in (
            ('teacher_ckpt', teacher_ckpt), ('teacher_input', teacher_input)))
        self.teacher_images = {}
        for name, network in self.teachers.items():
            if checkpoints[name] is not None:
                load_strict(network, checkpoints[name], f'model.teacher_ckpt{f".{name}" * bool(name)}')
                network._is_init = True  # else the runner would re-initialise the teacher
            part = given[name]
            own = network.data_preprocessor if isinstance(part, dict) and part.get('data_preprocessor') else \
                model_input(getattr(network, 'module', network))
            with argument_prefix(f'{name}: ' * bool(name), ConfigError):
                images = self.teacher_images[name] = images_for_teacher(self.data_preprocessor, own, inputs[name])
            if images is not None:
                network.register_forward_pre_hook(images.hook)
        # mmrazor's own setting has no effect: it expects OrderedDicts, which torch no longer uses for submodules.
        in_place_off(self.teacher, self)
        in_place_off(self.student, self)
        self._check_channels(input_shape)
        traces = {name: probe(network, input_shape, functools.partial(trace, network))
                  for name, network in self.teachers.items()}
        traced = probe(self.student, input_shape, functools.partial(trace, self.student))
        self.distiller.prepare(traces.get('', traces), traced)
        with argument_prefix('model.', ConfigError):
            self._fast = {name: FastForward(traces[name], fast_teacher) for name in traces}
        refuse_recorded_one_label(self)
        self.input_shape = input_shape
        self.passes: collections.Counter = collections.Counter()
        self.train()

    @property
    def teachers(self) -> dict[str, nn.Module]:
        """dict[str, nn.Module]: The teachers by name; a single one has the name ''."""
        return dict(self.teacher.networks) if isinstance(self.teacher, SeveralTeachers) else {'': self.teacher}

    def _check_channels(self, input_shape: Sequence[int] | None) -> None:
        """Refuse networks that need images with different numbers of channels."""
        networks = {'architecture': self.student,
                    **{f'teacher.{name}'.rstrip('.'): network for name, network in self.teachers.items()}}
        wanted = {key: probe_input(network).size(1) for key, network in networks.items()}
        given = input_shape[0] if input_shape else wanted['architecture']
        for key, network in networks.items():
            if wanted[key] != given:
                shape = given, *probe_input(network, input_shape).shape[2:]
                try:  # the first convolution defined may not be the one that takes the images
                    probe(network, shape, functools.partial(trace, network))
                except RuntimeError as error:
                    raise ConfigError(f'model.{key} takes images with {wanted[key]} channels but gets {given}: both '
                                      'networks get the same images, so set both to the same number (in_channels of the '
                                      'backbone, model.input_shape, color_type of LoadImageFromFile, mean and std of the '
                                      'data_preprocessor)') from error

    def init_weights(self) -> None:
        """Initialise the student and the distiller; called by the runner before training."""
        for name, network in self.teachers.items():
            if not network.is_init and network.init_cfg is None:
                print_log(f'model.teacher_ckpt{f".{name}" * bool(name)} is not set: the teacher is untrained', 'current', 30)
        super().init_weights()

    def train(self, mode: bool = True) -> 'TapDistill':
        """Set the mode of the student and the distiller; a fixed teacher stays in eval mode in every module."""
        super().train(mode)
        if not self.teacher_trainable:
            self.teacher.eval()
        return self

    def loss(self, batch_inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            batch_inputs (Tensor): Preprocessed images [B, C, H, W].
            data_samples (list, optional): Their annotations.

        Returns:
            dict[str, Tensor]: The student's own losses under ``student.``; the distiller's losses, including
            ``distill_losses`` of the config, under ``distill.``.
        """
        distiller = self.distiller
        distilling = not self.distillation_stopped
        transmitted = self._transmit(batch_inputs, data_samples) if distilling else {}
        distiller.set_deliveries_override(True)
        with argument_prefix('model.distiller: ', ConfigError), distiller.student_recorders, distiller.deliveries, \
                distiller.receiver_reader(self.student) as reader:
            with torch.set_grad_enabled(self.student_trainable and torch.is_grad_enabled()):
                student_losses = self.student(batch_inputs, data_samples, mode='loss')
        self.passes['student'] += 1
        for tap in reader.taps:
            if tap.name not in reader.features:
                raise ConfigError(f"model.distiller: layer '{tap.layer}' of the student is called with mode='tensor', "
                                  'as in probing, but not in training: give a layer that is called in both')
        for name, feature in reader.features.items():
            if self.student_trainable and torch.is_grad_enabled() and not feature.requires_grad:
                raise ConfigError(f"model.distiller.receivers: in training, layer '{name}' of the student has no "
                                  'gradient: disable activation checkpointing or the '
                                  "backbone's own backward, or give layers outside of it")
        losses = add_prefix(student_losses, 'student') if self.calculate_student_loss else {}
        if distilling:
            with argument_prefix('model.distiller: ', ConfigError):
                losses.update(add_prefix(distiller.tap_losses(reader.features, transmitted, data_samples), 'distill'))
            losses.update(add_prefix(distiller.compute_distill_losses(), 'distill'))
        return losses

    def _transmit(self, batch_inputs: Tensor, data_samples: list | None) -> dict[str, Tensor]:
        """Run the teacher, if needed, and return its features."""
        distiller = self.distiller
        if not distiller.taps('transmitter') and not distiller.loss_forward_mappings:
            return {}
        distiller.set_deliveries_override(False)
        features: dict[str, Tensor] = {}
        for name, network in self.teachers.items():
            if not name or taps_of(name, distiller.taps('transmitter')):
                features |= self._features_of(name, network, batch_inputs, data_samples)
        return features

    def _features_of(self, name: str, network: nn.Module, batch_inputs: Tensor, data_samples: list | None
                     ) -> dict[str, Tensor]:
        """Run one teacher, and return its features."""
        distiller = self.distiller
        recorders = distiller.teacher_recorders.recorders

        def read(images: Tensor) -> dict[str, Tensor]:
            with distiller.teacher_recorders, distiller.deliveries, distiller.transmitter_reader(network, name) as reader:
                network(images, data_samples, mode='tensor')
            recorded = {('recorder', name): list(recorder.data_buffer) for name, recorder in recorders.items()}
            return {**reader.features, **recorded}

        trains = self.teacher_trainable and torch.is_grad_enabled()
        with argument_prefix('model.distiller: ', ConfigError), torch.set_grad_enabled(trains):
            # A delivery's data wait in a queue, so there the teacher cannot run twice for a comparison of both ways.
            # Only a classifier's features depend on the images alone, and not on annotations.
            key = tuple(taps_of(name, distiller.taps('transmitter'))) if isinstance(network, BaseClassifier) else None
            found = read(batch_inputs) if distiller.deliveries.deliveries else \
                self._fast[name].run(read, batch_inputs, key=key)
        self.passes['teacher'] += 1
        for recorded, recorder in recorders.items():
            recorder.data_buffer[:] = found.pop(('recorder', recorded))
        return found
