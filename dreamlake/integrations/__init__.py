"""Helpers for other libraries, each an optional extra: ``pip install dreamlake[torch]`` and so on.

A module here imports its library when one of its names is used, never before.
"""
