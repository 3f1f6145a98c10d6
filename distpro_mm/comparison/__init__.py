"""Comparison of methods: benchmarks, their trainings, and running them."""
from .benchmark import Benchmark, Method
from .experiment import run_benchmark
from .jobs import JobMaker
from .live_line import LiveLine
from .training import Job

__all__ = ['Benchmark', 'Job', 'JobMaker', 'LiveLine', 'Method', 'run_benchmark']
