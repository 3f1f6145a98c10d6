"""Pathways, their transforms and distances, the grid that computes their loss, and their cost."""
from .by_name import ByName
from .cost import OUT_OF_PROPORTION, changed_costs, cost, pathway_costs
from .cross_attention import CrossAttention, CrossAttentionTransform
from .forms import DISTANCES, TRANSFORMATIONS, FormLoss, problem_of
from .grid import PathwayGrid
from .hcl_loss import HCLLoss
from .kl_divergence import KLDivergence
from .parts import COMPARE_AT
from .pathway import CONNECTIONS, Pathway, connect, depths, span
from .projections import IdentityTransform, LinearTransform, MLPTransform
from .transforms import AttentionTransform, ConvAttentionTransform, DeepAttentionTransform, PointwiseTransform, Transform

__all__ = [
    'COMPARE_AT', 'CONNECTIONS', 'DISTANCES', 'OUT_OF_PROPORTION', 'TRANSFORMATIONS', 'AttentionTransform', 'ByName',
    'ConvAttentionTransform', 'CrossAttention', 'CrossAttentionTransform', 'DeepAttentionTransform', 'FormLoss', 'HCLLoss',
    'IdentityTransform', 'KLDivergence', 'LinearTransform', 'MLPTransform', 'Pathway', 'PathwayGrid', 'PointwiseTransform',
    'Transform', 'changed_costs', 'connect', 'cost', 'depths', 'pathway_costs', 'problem_of', 'span'
]
