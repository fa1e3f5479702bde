"""The process from which tests fork others, which may be killed.

multiprocessing has one for all, and what it has loaded when it forks for the first time is all that it ever loads ahead.
So it is told here, for all tests: a child that had to import torch itself would take seconds.
"""

from multiprocessing import get_context

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.models.busy", "tests.training.children", "torch.utils.tensorboard", "numpy.ma"])
