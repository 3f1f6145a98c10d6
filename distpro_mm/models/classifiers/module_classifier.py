from collections.abc import Callable

import torch
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS
from torch import Tensor, nn

from distpro.tracing import find_logits


@MODELS.register_module()
class ModuleClassifier(BaseModel):
    """Any torch module that returns logits, as a classifier that mmengine can train.

    :class:`DistPro` puts it around an ``architecture`` or a ``teacher`` that is a plain module. The names of the module's
    layers start with ``module.``.

    Args:
        module (nn.Module): Called with the images [B, C, H, W].
        get_logits (Callable, optional): Gives the logits [B, K] out of what the module returns. Defaults to None: a tensor
            as it is, an attribute or key ``logits``, or the first element of a tuple.
        loss (nn.Module, optional): Called with logits [B, K] and labels [B]. Defaults to None: the cross-entropy.
        data_preprocessor (dict, optional): As of any model of mmengine. Defaults to None.
    """

    def __init__(self, module: nn.Module, get_logits: Callable[..., Tensor] | None = None,
                 loss: nn.Module | None = None, data_preprocessor: dict | None = None) -> None:
        super().__init__(data_preprocessor)
        self.module, self.get_logits = module, get_logits or find_logits
        self.logits = nn.Identity()  # a layer that returns the logits in every mode
        self.loss_module = nn.CrossEntropyLoss() if loss is None else loss

    def init_weights(self) -> None:
        """Nothing: the module is given as it is."""

    def forward(self, inputs: Tensor, data_samples: list[DataSample] | None = None,
                mode: str = 'tensor') -> Tensor | dict | list[DataSample]:
        """Forward.

        Args:
            inputs (Tensor): Images [B, C, H, W].
            data_samples (list[DataSample], optional): Their annotations.
            mode (str): 'tensor', 'loss' or 'predict'. Defaults to 'tensor'.

        Returns:
            Tensor, dict or list[DataSample]: Logits [B, K], or the dict of a module without logits; ``loss``; or the
            samples with predictions.
        """
        output = self.module(inputs)
        if mode == 'tensor' and self.get_logits is find_logits and isinstance(output, dict) and 'logits' not in output:
            return output  # of a network without a classifier, which can teach by its features
        logits = self.logits(self.get_logits(output))
        if mode == 'tensor':
            return logits
        if mode == 'loss':
            labels = torch.cat([sample.gt_label for sample in data_samples]).to(logits.device)
            return dict(loss=self.loss_module(logits, labels))
        samples = data_samples or [DataSample() for _ in logits]
        return [sample.set_pred_score(scores).set_pred_label(scores.argmax(0, keepdim=True))
                for sample, scores in zip(samples, logits.softmax(1))]
