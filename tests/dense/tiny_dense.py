"""A segmentor and a detector that need only mmengine, and made-up images of squares and crosses on noise.

Does not import the tested packages, so that an exported student can be built from this file and mmengine.
"""
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import nn

SIZE, SIDE, CELL = 24, 8, 4  # of an image, an object, a cell of the detector
THINGS = ('square', 'cross')


@DATASETS.register_module()
class Things(BaseDataset):
    """Images of one or two objects, with the class of each pixel (0: none), or boxes and their classes."""
    METAINFO = dict(classes=THINGS, palette=[(255, 0, 0), (0, 255, 0)])

    def __init__(self, count, seed, boxes):
        self.count, self.seed, self.boxes = count, seed, boxes
        super().__init__(serialize_data=False)

    def load_data_list(self):
        generator = np.random.RandomState(self.seed)
        return [self._draw(generator, 1 + index % 2) for index in range(self.count)]

    def _draw(self, generator, count):
        image, classes = generator.randint(0, 100, (3, SIZE, SIZE)), np.zeros((SIZE, SIZE), int)
        boxes, labels = [], []
        for place in generator.permutation([0, 1])[:count]:  # in the upper or the lower half: no two overlap
            left, top = generator.randint(0, SIZE - SIDE), place * SIZE // 2 + generator.randint(0, SIZE // 2 - SIDE)
            label = generator.randint(2)
            mask = np.ones((SIDE, SIDE), bool)
            if label:
                mask[:, :] = np.abs(np.arange(SIDE) - 3.5) < 2
                mask |= mask.T
            region = np.s_[..., top:top + SIDE, left:left + SIDE]
            image[region][:, mask] += 100
            classes[region][mask] = label + 1
            boxes.append([left, top, left + SIDE, top + SIDE])
            labels.append(label)
        return dict(image=image, classes=classes, boxes=boxes, labels=labels)

    def prepare_data(self, idx):
        info = self.get_data_info(idx)
        sample = BaseDataElement(metainfo=dict(sample_idx=idx))
        if self.boxes:
            sample.gt_instances = InstanceData(
                bboxes=torch.tensor(info['boxes'], dtype=torch.float32), labels=torch.tensor(info['labels']))
        else:
            sample.gt_sem_seg = PixelData(data=torch.from_numpy(info['classes'])[None])
        return dict(inputs=torch.from_numpy(info['image']).float(), data_samples=sample)


class _Dense(BaseModel):
    """Three stages of convolutions. Subclasses interpret the map of the last one."""

    def __init__(self, channels, outputs, data_preprocessor=None):
        super().__init__(data_preprocessor)

        def stage(before, after, stride):
            return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
                                 nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True))

        self.backbone = nn.Sequential()
        for number, (before, stride) in enumerate(((3, 1), (channels, 2), (2 * channels, 2)), 1):
            self.backbone.add_module(f'layer{number}', stage(before, channels * 2**(number - 1), stride))
        self.head = nn.Conv2d(4 * channels, outputs, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode != 'tensor':
            return getattr(self, mode)(self.logits(inputs), data_samples)
        return self.logits(inputs)

    def logits(self, inputs):
        return self.head(self.backbone(inputs.to(self.head.weight.dtype)))


@MODELS.register_module()
class TinySegmentor(_Dense):
    """Predicts a class for each pixel."""

    def __init__(self, channels, data_preprocessor=None):
        super().__init__(channels, 1 + len(THINGS), data_preprocessor)

    def logits(self, inputs):
        return F.interpolate(super().logits(inputs), inputs.shape[2:], mode='bilinear')

    def loss(self, logits, data_samples):
        return dict(loss_pixels=F.cross_entropy(logits, torch.cat([sample.gt_sem_seg.data for sample in data_samples])))

    def predict(self, logits, data_samples):
        for sample, classes in zip(data_samples, logits.argmax(1, keepdim=True)):
            sample.pred_sem_seg = PixelData(data=classes)
        return data_samples


@MODELS.register_module()
class TinyDetector(_Dense):
    """Predicts whether a cell of 4 x 4 pixels has the centre of an object, its class, and the offsets of its box."""

    def __init__(self, channels, data_preprocessor=None):
        super().__init__(channels, len(THINGS) + 4, data_preprocessor)

    def loss(self, outputs, data_samples):
        wanted, corners = torch.zeros_like(outputs[:, :len(THINGS)]), []
        for index, sample in enumerate(data_samples):
            for box, label in zip(sample.gt_instances.bboxes, sample.gt_instances.labels):
                column, row = ((box[:2] + box[2:]) / 2 / CELL).long().tolist()
                wanted[index, label, row, column] = 1
                middle = (torch.tensor([column, row] * 2, device=box.device) + 0.5) * CELL
                corners.append((outputs[index, len(THINGS):, row, column], (box - middle) / SIDE))
        found, right = (torch.stack(part) for part in zip(*corners))
        scores = F.binary_cross_entropy_with_logits(outputs[:, :len(THINGS)], wanted, reduction='none')
        # Lists with one tensor per level, as mmdet's heads return.
        return dict(loss_cls=[20 * scores.mean()], loss_bbox=[F.l1_loss(found, right.to(found))],
                    boxes_an_image=torch.tensor(len(corners) / len(data_samples)))

    def predict(self, outputs, data_samples):
        for sample, output in zip(data_samples, outputs):
            scores = output[:len(THINGS)].sigmoid()
            peaks = scores.amax(0)
            _, places = peaks.flatten().topk(4)
            rows, columns = places // peaks.size(1), places % peaks.size(1)
            middles = (torch.stack([columns, rows] * 2, 1) + 0.5) * CELL
            sample.pred_instances = InstanceData(
                bboxes=middles + SIDE * output[len(THINGS):, rows, columns].T, labels=scores[:, rows, columns].argmax(0),
                scores=peaks[rows, columns])
        return data_samples


@METRICS.register_module()
class PixelAccuracy(BaseMetric):
    """Share of correct pixels, or of correct boxes with an overlap of at least one half."""

    def process(self, data_batch, data_samples):
        for sample in data_samples:
            if 'pred_sem_seg' in sample:
                self.results.append((sample['pred_sem_seg']['data'] == sample['gt_sem_seg']['data']).float().mean().item())

    def compute_metrics(self, results):
        return dict(right=float(np.mean(results)))


@METRICS.register_module()
class BoxRecall(BaseMetric):
    """Share of objects with a predicted box of the right class and an overlap of at least one half."""

    def process(self, data_batch, data_samples):
        for sample in data_samples:
            found, wanted = sample['pred_instances'], sample['gt_instances']
            for box, label in zip(wanted['bboxes'], wanted['labels']):
                sides = torch.minimum(found['bboxes'][:, 2:], box[2:]) - torch.maximum(found['bboxes'][:, :2], box[:2])
                shared = sides.clamp(min=0).prod(1)
                areas = (found['bboxes'][:, 2:] - found['bboxes'][:, :2]).prod(1)
                overlap = shared / (areas + SIDE**2 - shared)
                self.results.append(bool(((overlap >= 0.5) & (found['labels'] == label)).any()))

    def compute_metrics(self, results):
        return dict(right=float(np.mean(results)))
