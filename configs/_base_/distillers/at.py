# Attention transfer (Zagoruyko and Komodakis, ICLR 2017): mean squared error of the normalised sums of squares over
# channels after every stage. Weight 1000: RepDistiller's.
at = dict(
    type='PairDistiller',
    transmitters='auto',
    receivers='auto',
    connections=[(-3, -3), (-2, -2), (-1, -1)],
    compare_at='smaller',
    loss=dict(type='ATLoss', loss_weight=1000.0))
