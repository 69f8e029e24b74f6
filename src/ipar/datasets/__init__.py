"""Simulated tissue."""
