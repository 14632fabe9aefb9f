"""A model of the protocol for content stored as recipes, shared parts and differences, and what explores it.

What is modelled, how to read a trace and what the runs show: ``README.md`` beside this file.
"""
