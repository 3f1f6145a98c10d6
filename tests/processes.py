"""Functions in processes of their own, which may be killed."""
import multiprocessing
import os
import signal

import torch
from plain_configs import plain_text


def in_a_process_of_its_own(function, *args):
    """Run a function in a process of its own; whether that was killed by SIGKILL.

    The process is forked. With a GPU, which a forked process cannot use once its parent has, it comes from a server that was
    started for this; the function and its arguments must be picklable then.
    """
    context = multiprocessing.get_context(method())
    if context.get_start_method() == 'forkserver':
        os.environ['PYTORCH_NVML_BASED_CUDA_CHECK'] = '1'  # importing mmengine asks for GPUs, in a way that stands a fork
        context.set_forkserver_preload(['distpro_mm'])
    child = context.Process(target=_call, args=(function, args))
    child.start()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL), f'exit code {child.exitcode}'
    return child.exitcode != 0


def method():
    """How processes are started here."""
    return os.environ.get('DISTPRO_TEST_START', 'forkserver' if torch.cuda.is_available() else 'fork')


def deterministic():
    """Let a GPU give the same results every time."""
    torch.use_deterministic_algorithms(True, warn_only=True)  # a loss of segmentation has no such kernel
    torch.backends.cudnn.deterministic = True


def _call(function, args):
    from mmengine.config import Config
    torch.set_num_threads(1)
    Config.pretty_text = property(plain_text)
    if torch.cuda.is_available():
        deterministic()
    function(*args)
