"""Benchmarks against plain baselines measured in the same run.

    python -m tools.bench [NAME ...] [--quick] [--runs 5] [--json FILE] [--dir DIR] [--check]

Figures of one machine and one moment mean little; the ratio to a baseline that ran in alternation with them does. Work
runs in fresh processes, so that no run profits from the start-up, the caches or the imports of another.
"""
