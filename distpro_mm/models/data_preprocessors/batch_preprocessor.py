from mmpretrain.models import ClsDataPreprocessor
from mmrazor.registry import MODELS


@MODELS.register_module()
class BatchPreprocessor(ClsDataPreprocessor):
    """mmpretrain's preprocessor, which first makes the augmentations that a batch brings along.

    A batch of an :class:`~distpro_mm.datasets.InMemoryDataset` brings some; any other is prepared as by mmpretrain's.

    Args:
        **kwargs: Of mmpretrain's ``ClsDataPreprocessor``.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Augment, normalise and move to the device.

        Args:
            data (dict): ``inputs`` [B, C, H, W], ``data_samples`` and, maybe, ``augments``.
            training (bool): Whether to make mmpretrain's ``batch_augments`` too, which mix labels. Defaults to False.

        Returns:
            dict: ``inputs`` and ``data_samples`` as the model takes them.
        """
        inputs = data['inputs']
        if data.get('augments'):
            inputs = self.cast_data(inputs)
            for augment in data['augments']:
                inputs = augment(inputs)
        return super().forward(dict(inputs=inputs, data_samples=data.get('data_samples')), training)
