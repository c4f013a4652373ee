"""Measurements, printed as tables and never asserted; run one with `python3 -m tests.bench.NAME`."""
