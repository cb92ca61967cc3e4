"""What the package is measured against: speed and numerical agreement. Run as `python -m benchmarks`."""
