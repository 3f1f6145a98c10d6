"""Run functions in separate processes that may be killed."""
import multiprocessing
import os
import signal
import socket

import torch
from plain_configs import plain_text


def in_a_process_of_its_own(function, *args):
    """Run a function in a separate process. Returns whether it was killed by SIGKILL.

    See :func:`started`.
    """
    child = started(function, *args)
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL), f'exit code {child.exitcode}'
    return child.exitcode != 0


def started(function, *args):
    """Start a function in a separate process. Returns the process.

    The process is forked. A forked process cannot use a GPU that its parent uses, so with a GPU a fork server starts it. The
    function and its arguments must be picklable then.
    """
    context = multiprocessing.get_context(method())
    if context.get_start_method() == 'forkserver':
        os.environ['PYTORCH_NVML_BASED_CUDA_CHECK'] = '1'  # mmengine's import looks for GPUs; this way is safe with forks
        context.set_forkserver_preload(['distpro_mm'])
    child = context.Process(target=_call, args=(function, args))
    child.start()
    return child


def free_port():
    """str: A port of this machine that is free at present."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return str(free.getsockname()[1])


def method():
    """Start method of processes."""
    return os.environ.get('DISTPRO_TEST_START', 'forkserver' if torch.cuda.is_available() else 'fork')


def deterministic():
    """Use deterministic kernels on a GPU."""
    torch.use_deterministic_algorithms(True, warn_only=True)  # a loss of segmentation has no deterministic kernel
    torch.backends.cudnn.deterministic = True


def _call(function, args):
    from mmengine.config import Config
    torch.set_num_threads(1)
    Config.pretty_text = property(plain_text)
    if torch.cuda.is_available():
        deterministic()
    function(*args)
