"""Methods side by side: what a benchmark is, its trainings, and running them."""
from .benchmark import Benchmark, Method
from .jobs import Job, JobMaker
from .machine import usual_trainings
from .runs import run_benchmark

__all__ = ['Benchmark', 'Job', 'JobMaker', 'Method', 'run_benchmark', 'usual_trainings']
