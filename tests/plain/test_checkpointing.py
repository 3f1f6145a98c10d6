"""Students with activation checkpointing, whose layers run again in the backward pass."""
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import distpro


class Checkpointed(nn.Module):
    """A student of blocks, which may be checkpointed; tokens if it has no images between its blocks."""

    def __init__(self, width, tokens, reentrant=None):
        super().__init__()
        self.tokens, self.reentrant = tokens, reentrant
        self.patch = nn.Conv2d(3, width, 2, 2)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 32, batch_first=True, dropout=0.) if tokens else
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()) for _ in range(4))
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        x = self.patch(x)
        x = x.flatten(2).transpose(1, 2) if self.tokens else x
        for block in self.blocks:
            x = block(x) if self.reentrant is None else checkpoint(block, x, use_reentrant=self.reentrant)
        return self.head(x.mean(1) if self.tokens else x.mean((2, 3)))


def gradients(tokens, reentrant, map_size):
    torch.manual_seed(0)
    student, teacher, images = Checkpointed(16, tokens, reentrant), Checkpointed(32, tokens), torch.randn(8, 3, 16, 16)
    kd = distpro.Distillation(student, teacher, images[:2], map_size=map_size, fast_teacher=False)
    out = kd(images)
    (out.loss + out.logits.square().mean()).backward()
    return [p.grad for p in (*student.parameters(), *kd.parameters()) if p.grad is not None]


@pytest.mark.parametrize('map_size', ['auto', None])
@pytest.mark.parametrize('tokens', [True, False])
def test_a_checkpointed_student_has_the_gradients_of_one_that_is_not(tokens, map_size):
    expected, found = gradients(tokens, None, map_size), gradients(tokens, False, map_size)
    assert len(found) == len(expected) > 10
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('tokens', [True, False])
def test_layers_that_run_without_gradients_are_refused(tokens):
    with pytest.raises(distpro.ArgumentError, match="^student: layer 'blocks.*' runs without gradients in training, so its "
                                                    'pathways would teach nothing: set use_reentrant=False'):
        gradients(tokens, True, 'auto')
