# Factor transfer (Kim et al., NeurIPS 2018), two stages. First the paraphraser, an autoencoder with half the channels,
# learns to reconstruct the teacher's last map; then the student's translator learns the paraphraser's factors. Rate 1/2 and
# weight 500 (for the mean over elements, as here): the release's. RepDistiller has 200, for factors without channels.
_ft_autoencoder = dict(type='Paraphraser', in_channel='teacher_channels', out_channel='teacher_channels/2')
ft_paraphraser = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers='auto',
    connections=[(-1, -1)],
    loss=dict(type='ReconstructionLoss', autoencoder=dict(phase='pretrain', **_ft_autoencoder)))
ft = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers='auto',
    connections=[(-1, -1)],
    compare_at='smaller',
    student_connector=dict(type='Translator', in_channel='student_channels', out_channel='teacher_channels/2'),
    teacher_connector=dict(phase='train', **_ft_autoencoder),
    loss=dict(type='FTLoss', loss_weight=500.0))
