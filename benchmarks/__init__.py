"""Benchmarks of ipar: run each module from the root of the repository, as ``python -m benchmarks.run``."""
