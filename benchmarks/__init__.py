"""What things cost, measured by hand on one machine: `python -m benchmarks.NAME`. Nothing here is a test."""
