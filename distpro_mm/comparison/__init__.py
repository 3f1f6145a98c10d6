"""Methods side by side: what a benchmark is, and running its trainings."""
from .benchmark import Benchmark, Job
from .runs import run_benchmark

__all__ = ['Benchmark', 'Job', 'run_benchmark']
