# Similarity-preserving distillation (Tung and Mori, ICCV 2019): similarity between the images of a batch, by the
# last maps. Weight 3000: the paper's and RepDistiller's.
sp = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers='auto',
    connections=[(-1, -1)],
    loss=dict(type='SPLoss', loss_weight=3000.0))
