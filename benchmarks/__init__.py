"""Speed and memory side by side: ``python -m benchmarks``. Every ratio comes from one run on one machine."""
