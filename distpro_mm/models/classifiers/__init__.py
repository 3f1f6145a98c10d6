from .module_classifier import ModuleClassifier
from .named_classifier import NamedClassifier

__all__ = ['ModuleClassifier', 'NamedClassifier']
