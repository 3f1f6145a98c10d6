# In-context sample retrieval (Zhu et al., 2025), a reconstruction after the abstract: the student's logits against those of the
# teacher for similar training images of the same class, and away from those of other classes; and KD, as in kd.py. 8 positives
# and 8 negatives, weights 1 and 1: ours.
_base_ = './kd.py'
ickd = dict(
    _base_.kd,
    type='InContextDistiller',
    loss=dict(type='InContextLoss', positives=8, negatives=8, weights=(1.0, 1.0)))
