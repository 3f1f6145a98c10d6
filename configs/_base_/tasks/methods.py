# Settings that the methods' configs read, with defaults. A task or a pair overrides them.
replay = dict()  # arguments of ProcessReplayHook
round_share = 0.1  # length of a search's round as a share of the training
# Stages of teacher and student that AB, AT, OFD, VID and L2T-ww compare; FitNet takes the second of them.
stages = [(-3, -3), (-2, -2), (-1, -1)]
# transmitters and receivers in place of 'auto': before the activation (AB, OFD, L2T-ww), after the activation (AT, CWD, FitNet,
# FT, MGD, PKD, SP, VID, WKD-F), and the map for the classifier, if it is not that of the last stage (CC, CRD, KD++, NORM,
# SimKD, SRD, VkD).
layers_before, layers_after, layers_pooled = dict(), dict(), dict()
# Modules of teacher and student whose outputs RKD compares.
feature_modules = ['neck', 'neck']
# Arguments of losses.
kd_loss = dict()
kdpp_kl_loss, kdpp_nd_loss = dict(), dict()
kdpp_warm_up = 20 / 240  # share of the training over which the weight of KD rises in KD++
wkd_l_loss, wkd_f_loss = dict(), dict()
lskd_dkd_loss = dict(tau=2, loss_weight=9.0)  # beside those of dkd_loss
# Share of the training, at its end, over which the weights of WKD-L and WKD-F fall to 0.
wkd_l_decay = wkd_f_decay = 90 / 240
# Weight of the distance of ATSC's teacher from its initial weights: the release's for CIFAR-100.
atsc_proximity = 1.0
ickd_bank = dict()  # arguments of the TeacherClassesHook of in-context retrieval
reviewkd_options = dict()
before = [dict(module='auto', before_activation=True)]
published_layers = dict(transmitters=before, receivers=before)  # of DistPro as published, before their activations
