"""What a user chooses from on the command line. It imports nothing, so that help is quick."""

# A study on small digits in minutes, or on MNIST and CIFAR-10 in hours.
PROFILES = ("quick", "full")
# Where runs are spread: over this machine's cores, or over a cluster.
ENGINES = ("loky", "ray", "dask")
