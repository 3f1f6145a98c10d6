"""The transforms of :mod:`distpro.pathways` as connectors of mmrazor."""
import copy

from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS

from distpro import pathways


def connector(transform: type) -> type:
    """Register a transform as a connector with the further argument ``init_cfg`` of mmengine.

    Args:
        transform (type): A subclass of :class:`distpro.pathways.Transform`, or another module with its call.

    Returns:
        type: The connector, with the transform's name and arguments.
    """

    def __init__(self, *args, init_cfg: dict | None = None, **kwargs) -> None:
        transform.__init__(self, *args, **kwargs)
        self.init_cfg = copy.deepcopy(init_cfg)

    body = dict(__init__=__init__, __doc__=transform.__doc__, __module__=__name__, forward_train=transform.forward)
    return MODELS.register_module(module=type(transform.__name__, (transform, BaseConnector), body))


PointwiseTransform = connector(pathways.PointwiseTransform)
AttentionTransform = connector(pathways.AttentionTransform)
DeepAttentionTransform = connector(pathways.DeepAttentionTransform)
ConvAttentionTransform = connector(pathways.ConvAttentionTransform)
CrossAttentionTransform = connector(pathways.CrossAttentionTransform)
IdentityTransform = connector(pathways.IdentityTransform)
LinearTransform = connector(pathways.LinearTransform)
MLPTransform = connector(pathways.MLPTransform)
