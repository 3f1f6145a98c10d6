"""Installation; ``make`` calls it with the tested versions of requirements/constraints.txt."""
import pathlib
import re
import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = pathlib.Path(__file__).parent


class BuildWithMim(build_py):
    """Puts configs and tools under ``distpro_mm/.mim``, where OpenMMLab's package manager looks for them."""

    def run(self):
        super().run()
        mim = (ROOT if self.editable_mode else pathlib.Path(self.build_lib)) / 'distpro_mm' / '.mim'
        mim.mkdir(parents=True, exist_ok=True)
        for name in ('configs', 'tools'):
            target = mim / name
            if target.is_symlink():
                target.unlink()
            elif target.exists():
                shutil.rmtree(target)
            if self.editable_mode:
                target.symlink_to(ROOT.resolve() / name)
            else:
                shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns('__pycache__'))


# Ranges hold what was tried, or a library's own promise; requirements/constraints.txt pins the tested set.
TORCHVISION = 'torchvision>=0.21,<0.30'  # those of torch 2.6 to 2.14
EVOLUTION = ['cmaes>=0.13,<1']
RAZOR = [
    *EVOLUTION,
    TORCHVISION,
    'mmrazor>=1.0,<1.1',
    'joblib>=1,<2',  # mmrazor imports it and does not declare it
    'setuptools>=77.0.3,<82',  # mmengine imports pkg_resources
    'matplotlib>=3.8,<4',
    'rich>=13,<16',  # the line with the progress; mmengine needs it too
    'scikit-learn>=1,<2',  # the digits
]
MM = [
    *RAZOR,
    'mmengine>=0.10.7,<0.11',
    'mmcv-lite>=2.1,<2.1.1',  # mmdetection refuses 2.2; the full mmcv 2.1.0 may stand in its place
    'mmpretrain>=1.2,<1.3',
]

setup(
    name='distpro_mm',
    version=re.search(r"__version__ = '(.+)'", (ROOT / 'distpro_mm' / '__init__.py').read_text()).group(1),
    description='DistPro: learns a knowledge-distillation process and replays it, in plain torch and for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license_expression='Apache-2.0',
    license_files=['LICENSE'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Typing :: Typed',
    ],
    keywords='knowledge distillation, meta learning, pytorch, openmmlab, mmrazor',
    packages=find_packages(include=['distpro', 'distpro.*', 'distpro_app', 'distpro_mm', 'distpro_mm.*']),
    entry_points=dict(console_scripts=['distpro=distpro_app.main:main']),
    package_data={'distpro': ['py.typed', 'process/shipped/**/*.json'],
                  'distpro_mm': ['py.typed', 'reporting/templates/*']},
    python_requires='>=3.10,<3.14',
    install_requires=[  # of the package distpro; distpro_mm needs the extra mm, distpro_app the extra app
        'torch>=2.6,<2.15',
        'numpy>=1.26,<3',
    ],
    extras_require=dict(
        mm=MM,
        # In place of mm: the maintained forks, which install the same packages mmengine, mmcv and mmpretrain.
        onedl=[*RAZOR, 'onedl-mmengine>=0.10.12,<0.11', 'onedl-mmcv>=2.3.6,<2.4', 'onedl-mmpretrain>=1.3.6,<1.4'],
        evolution=EVOLUTION,  # distpro's search by CMA-ES
        # Segmentation and detection; mmsegmentation does not declare ftfy and regex.
        dense=[*MM, 'mmsegmentation>=1.2.2,<1.3', 'mmdet>=3.3,<3.4', 'ftfy', 'regex'],
        app=['typer>=0.19,<1', TORCHVISION, 'pillow'],  # the command distpro
        onnx=['onnx>=1.17', 'onnxscript>=0.5', 'onnxruntime>=1.20'],
        timm=['timm>=1.0,<2', TORCHVISION],  # networks by name
        hf=['transformers>=4.50,<6', 'safetensors'],
        tensorboard=['tensorboard'],
        ray=['ray>=2.40,<3'],  # comparisons and searches on a cluster
        shards=['datasets>=4,<6'],  # images in parquet or WebDataset shards
        report=['plotly>=6,<8', 'jinja2>=3.1,<4'],  # report.html of trainings and comparisons
        docs=['mkdocs-material>=9.5,<10', 'mkdocstrings[python]>=0.26,<2'],
        browser=['playwright>=1.40,<2'],  # tests of reports, with Debian's chromium
        dev=['import-linter', 'mypy', 'pytest', 'pytest-timeout', 'pytest-xdist', 'ruff'],
    ),
    cmdclass=dict(build_py=BuildWithMim),
    zip_safe=False,
)
