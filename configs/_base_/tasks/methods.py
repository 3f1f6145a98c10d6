# Settings that the methods' configs read, with defaults. A task or a pair overrides them.
replay = dict()  # arguments of ProcessReplayHook
round_share = 0.1  # length of a search's round as a share of the training
# Stages of teacher and student that AB, AT, OFD, VID and L2T-ww compare; FitNet takes the second of them.
stages = [(-3, -3), (-2, -2), (-1, -1)]
# transmitters and receivers in place of 'auto': before the activation (AB, OFD, L2T-ww), after the activation (AT, CWD, FitNet,
# FT, MGD, PKD, SP, VID), and the map for the classifier, if it is not that of the last stage (CC, CRD, NORM, SimKD).
layers_before, layers_after, layers_pooled = dict(), dict(), dict()
# Modules of teacher and student whose outputs RKD compares.
feature_modules = ['neck', 'neck']
# Arguments of losses.
kd_loss = dict()
reviewkd_options = dict()
