"""Metrics, intervals, paired tests and baselines."""
