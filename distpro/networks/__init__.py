"""Networks by name, from timm, torchvision, torch.hub and Hugging Face; their weights and their input."""
from .build import SOURCES, build_network, check_source, register_source
from .conversion import InputConversion, convert_input
from .input import ModelInput, model_input
from .weights import load_weights

__all__ = [
    'InputConversion', 'ModelInput', 'SOURCES', 'build_network', 'check_source', 'convert_input', 'load_weights',
    'model_input', 'register_source'
]
