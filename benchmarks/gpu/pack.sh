#!/usr/bin/env bash
# What a GPU machine without a network needs besides torch, in .gpu: packages, a part of CIFAR-100.
set -eu
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
mkdir -p .gpu
if [ ! -f .gpu/site.tar.gz ]; then
    folder=$(mktemp -d)
    "$PYTHON" -m pip install --quiet --no-deps --no-compile --target "$folder/site" --constraint requirements/constraints.txt \
        addict cmaes importlib-metadata lazy-importer mat4py mmcv-lite mmengine mmpretrain mmrazor model-index ordered-set \
        platformdirs rich termcolor yapf
    tar -czf .gpu/site.tar.gz -C "$folder" site
    rm -r "$folder"
fi
[ -f .gpu/cifar100.npz ] || "$PYTHON" benchmarks/gpu/packed.py pack data/cifar100 .gpu/cifar100.npz
du -sh .gpu
