from .module_classifier import ModuleClassifier

__all__ = ['ModuleClassifier']
