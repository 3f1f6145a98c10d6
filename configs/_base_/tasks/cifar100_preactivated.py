# CIFAR-100 for pairs of two WRNs or PyramidNets, whose stages end before a batch norm and an activation.
_base_ = './cifar100.py'
layers_before = dict(transmitters=_base_.wrn_before, receivers=_base_.wrn_before)
layers_pooled = dict(transmitters=_base_.pooled, receivers=_base_.pooled)
reviewkd_options = dict(transmitters=_base_.wrn_before, pooled='backbone')
