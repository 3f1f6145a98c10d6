from mmpretrain.models import ClsDataPreprocessor
from mmrazor.registry import MODELS


@MODELS.register_module()
class BatchPreprocessor(ClsDataPreprocessor):
    """mmpretrain's preprocessor, which first applies the augmentations in a batch.

    Batches of an :class:`~distpro_mm.datasets.InMemoryDataset` have augmentations. For other batches, this is mmpretrain's
    preprocessor.

    Args:
        **kwargs: Arguments of mmpretrain's ``ClsDataPreprocessor``.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Augment, normalise and move to the device.

        Args:
            data (dict): ``inputs`` [B, C, H, W], ``data_samples`` and optionally ``augments``.
            training (bool): Whether to apply mmpretrain's ``batch_augments`` too, which mix images and labels. Defaults to
                False.

        Returns:
            dict: ``inputs`` and ``data_samples`` of the model.
        """
        inputs = data['inputs']
        if data.get('augments'):
            inputs = self.cast_data(inputs)
            for augment in data['augments']:
                inputs = augment(inputs)
        return super().forward(dict(inputs=inputs, data_samples=data.get('data_samples')), training)
