"""The choices on the command line. This module imports nothing, so that ``--help`` is fast."""

# A study on small digits takes minutes; on MNIST and CIFAR-10 it takes hours.
PROFILES = ("quick", "full")
# How runs are distributed: over the cores of this machine, or over a cluster.
ENGINES = ("loky", "ray", "dask")
