"""The teacher's blocks in clusters: similarities by independent derivations, one medoid for each group."""
import copy

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from toys import SHAPE, classifier

from distpro.tracing import find_blocks, in_place_off, trace
from distpro_mm.engine.config_file import load_config
from distpro_mm.engine.launch import build_model, build_trainer, expand_clustered_layers
from distpro_mm.errors import ConfigError
from distpro_mm.models.clustering import cluster_layers, medoids_of, similarities

pytestmark = pytest.mark.usefixtures('fixed_values')

N = 40


def cka(x, y):
    """By the centred Gram matrices of images."""
    centre = np.eye(N) - 1 / N
    k, m = (centre @ features @ features.T @ centre for features in (x, y))
    return (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())


def cca(x, y, share=0.99):
    """By the eigenvalues of the whitened covariances of projections to the leading principal components."""
    reduced = []
    for features in (x, y):
        features = features - features.mean(0)
        values, vectors = np.linalg.eigh(features.T @ features)
        values, vectors = values[::-1], vectors[:, ::-1]
        count = 1 + int(np.sum(np.cumsum(values) / values.sum() < share))
        reduced.append(features @ vectors[:, :count])
    a, b = reduced
    correlations = np.linalg.eigvals(np.linalg.solve(a.T @ a, a.T @ b) @ np.linalg.solve(b.T @ b, b.T @ a)).real
    return correlations.sum() / min(a.shape[1], b.shape[1])


@pytest.mark.parametrize('metric, by_hand', [('cka', cka), ('cca', cca)])
def test_similarities_are_those_of_the_papers(draw, metric, by_hand):
    shared = draw(N, 4)
    vectors = [np.exp(shared @ draw(4, 6)), shared @ draw(4, 3) + draw(N, 3) + 5, 3 * shared @ draw(4, 7) + 0.5 * draw(N, 7)]
    vectors[0][:, 0] *= 1e-4  # a direction with hardly any variance
    found = similarities(vectors, metric)
    expected = [[by_hand(x, y) for y in vectors] for x in vectors]
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    np.testing.assert_allclose(found.diagonal(), 1)
    assert 0.01 < found[0, 1] < 0.99
    rotated = np.linalg.qr(draw(6, 6))[0]
    np.testing.assert_allclose(similarities([7 * vectors[0] @ rotated + 1, vectors[1]], metric)[0, 1], found[0, 1])
    other = dict(cka=cca, cca=cka)[metric]
    assert abs(other(*vectors[:2]) - found[0, 1]) > 1e-3, 'the comparison would not notice the other metric'
    assert similarities([np.ones((N, 3)), vectors[0]], metric)[0, 1] == 0


def test_medoids_are_the_blocks_nearest_to_the_others_of_their_cluster():
    similarity = np.array([[1, .9, .8, .1, .1], [.9, 1, .9, .1, .1], [.8, .9, 1, .1, .2], [.1, .1, .1, 1, .9],
                           [.1, .1, .2, .9, 1]])
    clusters, medoids = medoids_of(similarity, 2)
    assert clusters.tolist() == [0, 0, 0, 1, 1] and medoids.tolist() == [1, 4]
    for k in range(1, 6):
        assert len(medoids_of(np.ones((5, 5)), k)[1]) == k, 'also where all are alike'
    assert medoids_of(np.ones((1, 1)), 1)[1].tolist() == [0]
    order = [3, 0, 4, 2, 1]
    mixed = medoids_of(similarity[np.ix_(order, order)], 2)
    assert [order[medoid] for medoid in mixed[1]] == [4, 1] and mixed[0].tolist() == [0, 1, 0, 1, 1]


def duplicated(depth=20):
    """A classifier whose stages have three blocks each, of which the second and the third return what the first does."""
    network = MODELS.build(classifier(4, depth=depth))
    for stage in (network.backbone.layer1, network.backbone.layer2, network.backbone.layer3):
        for block in list(stage)[1:]:
            torch.nn.init.zeros_(block.bn2.weight)
            torch.nn.init.zeros_(block.bn2.bias)
    in_place_off(network)
    return network.eval()


def test_a_network_with_duplicated_blocks_has_one_medoid_for_each_group():
    init_default_scope('mmpretrain')
    network = duplicated()
    images = torch.randn(32, *SHAPE)
    traced = trace(network, lambda: network(images[:2], mode='tensor'))
    names = [f'backbone.layer{stage}.{block}' for stage in (1, 2, 3) for block in range(3)]
    assert [layer['module'] for layer in find_blocks(traced, 'backbone', 'transmitters')] == names
    forwards = [lambda part=part: network(part, mode='tensor') for part in images.split(20)]
    for metric in ('cka', 'cca'):
        found = cluster_layers(traced, forwards, 3, metric)
        assert found.names == names and found.clusters.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert [layer['module'] for layer in found.layers] == [f'backbone.layer{stage}.2' for stage in (1, 2, 3)]
        assert np.allclose(found.similarity[:3, :3], 1) and found.similarity[0, 8] < 0.999
    with pytest.raises(ConfigError, match='^model.distiller.transmitters.k=10: the network has 9 blocks'):
        cluster_layers(traced, [lambda: network(images, mode='tensor')], 10, 'cka')


@pytest.mark.parametrize('backbone, blocks', [
    (dict(type='SwinTransformer', img_size=16, patch_size=2, window_size=2,
          arch=dict(embed_dims=8, depths=[1, 1, 2], num_heads=[1, 1, 1]), out_indices=(2, )), 4),
    (dict(type='VisionTransformer', img_size=16, patch_size=4,
          arch=dict(embed_dims=8, num_layers=5, num_heads=2, feedforward_channels=16)), 5),
    (dict(type='ResNet', depth=50, base_channels=4, stem_channels=4), 16), (dict(type='MobileNetV2', widen_factor=0.1), 17),
    (dict(type='CIFARVGG', depth=8), 5)], ids=lambda value: value['type'] if isinstance(value, dict) else str(value))
def test_every_block_of_common_networks_is_found(backbone, blocks):
    init_default_scope('mmpretrain')
    network = MODELS.build(dict(type='ImageClassifier', backbone=backbone))
    images = torch.randn(2, 3, *([16, 16] if 'img_size' in backbone else [32, 32]))
    traced = trace(network, lambda: network.backbone(images))
    found = [layer['module'] for layer in find_blocks(traced, 'backbone', 'transmitters')]
    assert len(found) == blocks and len(set(found)) == len(found), found
    assert not any(name.startswith(f'{other}.') for name in found for other in found)


def test_a_training_clusters_on_training_images_and_names_the_layers(make_config):
    cfg = make_config('pursuhint', model__distiller__transmitters__images=50, train_cfg__max_epochs=1)
    cfg.train_dataloader.dataset.images_per_class = 6
    cfg.model.distiller.transmitters.metric = 'cca'
    teacher = build_model(cfg)  # on random images
    assert len(teacher.distiller.taps('transmitter')) == 3
    runner = build_trainer(cfg)
    layers = [layer['module'] for layer in cfg.model.distiller.transmitters]
    assert [tap.layer for tap in runner.model.distiller.taps('transmitter')] == layers and len(layers) == 3
    runner.train()
    assert runner.iter == runner.max_iters


def test_the_clusters_are_those_of_the_given_teacher(make_config, tmp_path):
    """With the weights of a checkpoint, on images of the training set: one medoid for each stage."""
    init_default_scope('mmpretrain')
    cfg = make_config('pursuhint')
    cfg.model.teacher.backbone = dict(cfg.model.teacher.backbone, depth=20)
    network = MODELS.build(copy.deepcopy(cfg.model.teacher))
    for stage in (network.backbone.layer1, network.backbone.layer2, network.backbone.layer3):
        for block in list(stage)[1:]:
            torch.nn.init.zeros_(block.bn2.weight)
    torch.save(dict(state_dict=network.state_dict()), tmp_path / 'teacher.pth')
    cfg.model.teacher_ckpt = str(tmp_path / 'teacher.pth')
    found = expand_clustered_layers(cfg)
    assert found.clusters.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [layer['module'] for layer in cfg.model.distiller.transmitters] == [f'backbone.layer{n}.2' for n in (1, 2, 3)]
    assert expand_clustered_layers(cfg) is None, 'the layers are explicit now'


@pytest.mark.parametrize('options, text', [
    (dict(k=0), r'\.k=0 must be a whole number from 1'), (dict(metric='pwcca'), r"\.metric='pwcca' is not one of cka, cca"),
    (dict(images=1), r'\.images=1 must be a whole number from 2'),
    (dict(clusters=3), r" has \['clusters'\]; the options of")])
def test_wrong_options_are_named(make_config, options, text):
    cfg = make_config('pursuhint')
    cfg.model.distiller.transmitters.update(options)
    with pytest.raises(ConfigError, match=f'^model.distiller.transmitters{text}'):
        build_model(cfg)


@pytest.mark.parametrize('path, options', [
    ('configs/baselines/pursuhint.py', []),
    ('configs/distpro/search.py', [f'model.distiller.transmitters.{option}' for option in
                                   ('type=clustered', 'k=2', 'images=64')])])
def test_the_tool_prints_the_similarities_and_the_medoids(tool, tmp_path, path, options):
    init_default_scope('mmpretrain')
    cfg = load_config(path, pair='resnet20_resnet8-half_digits')
    torch.save(dict(state_dict=MODELS.build(cfg.teacher).state_dict()), tmp_path / 'teacher.pth')
    done = tool('inspect_pathways', path, '--pair', 'resnet20_resnet8-half_digits', '--cfg-options',
                f'model.teacher_ckpt={tmp_path / "teacher.pth"}', *options)
    assert not done.returncode, done.stderr
    rows = [line.split('|')[1:-1] for line in done.stdout.splitlines() if ': backbone.layer' in line]
    count = 2 if options else 3
    assert [len(row) for row in rows] == [11] * 9 and sum('medoid' in row[1] for row in rows) == count
    assert [float(row[place + 2]) for place, row in enumerate(rows)] == [1.0] * 9
    medoids = [row[0].split(':')[1].strip() for row in rows if 'medoid' in row[1]]
    assert f"transmitters={[dict(module=name) for name in medoids]}" in done.stdout
    assert ('Pathways; cost' in done.stdout) == bool(options)
