"""The names of the engines that spread runs. This module loads nothing: the command line's help lists them."""

ENGINES = ("loky", "ray", "dask")
