# The forms of a loss that a search chooses from: every operator of distpro.pathways.TRANSFORMATIONS and DISTANCES by name, the
# layers that are compared (the last one, the one before, or the last three), and the weights of this loss and of KD.
transformations = [
    'none', 'spatial_attention', 'channel_attention', 'batch_attention', 'pool_1', 'pool_2', 'pool_4', 'patches_2', 'patches_4',
    'batch_gram', 'channel_gram', 'position_gram', 'norm_channels', 'norm_positions', 'norm_images', 'softmax_channels',
    'softmax_positions', 'softmax_images', 'log_softmax_channels', 'log_softmax_positions', 'log_softmax_images', 'standardize',
    'min_max', 'abs', 'square', 'sqrt', 'log', 'exp', 'sigmoid', 'tanh', 'relu'
]
form_grid = {
    'model.distiller.loss.distance': ['l1', 'l2', 'smooth_l1', 'kl_1', 'kl_4', 'kl_8', 'cosine', 'pearson'],
    'model.distiller.loss.loss_weight': [0.1, 1.0, 10.0, 100.0],
    'model.distiller.distill_losses.loss_kl.loss_weight': [0.9, 9.0],
    'model.distiller.connections': [[(-1, -1)], [(-2, -2)], [(-3, -3), (-2, -2), (-1, -1)]],
    'model.distiller.loss.transformations.0': transformations,
    'model.distiller.loss.transformations.1': transformations,
    'model.distiller.loss.transformations.2': transformations
}
