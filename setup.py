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


setup(
    name='distpro_mm',
    version=re.search(r"__version__ = '(.+)'", (ROOT / 'distpro_mm' / '__init__.py').read_text()).group(1),
    description='DistPro for OpenMMLab: learns a knowledge-distillation process and replays it',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    packages=find_packages(include=['distpro', 'distpro.*', 'distpro_mm', 'distpro_mm.*']),
    python_requires='>=3.10,<3.13',  # numpy < 2 has no wheels for 3.13
    install_requires=[
        # Only versions that were tried. mmcv-lite may be replaced by the full mmcv 2.1.0.
        'torch==2.13.0',
        'torchvision==0.28.0',
        'mmengine==0.10.7',
        'mmcv-lite==2.1.0',
        'mmpretrain==1.2.0',
        'mmrazor==1.0.0',
        'joblib',  # mmrazor imports it and does not declare it
        'numpy>=1.26,<2',  # mmpretrain's ColorJitter fails on numpy 2
        'setuptools>=77.0.3,<82',  # mmengine imports pkg_resources
        'cmaes',  # a search without derivatives
        'matplotlib',
        'scikit-learn',  # the digits
    ],
    extras_require=dict(
        dev=['import-linter', 'pytest', 'pytest-timeout', 'pytest-xdist', 'ruff'],
        tensorboard=['tensorboard'],
        # Segmentation and detection; mmsegmentation does not declare ftfy and regex.
        dense=['mmsegmentation==1.2.2', 'mmdet==3.3.0', 'ftfy', 'regex'],
    ),
    cmdclass=dict(build_py=BuildWithMim),
    zip_safe=False,
)
