"""Hypothesis searches the same examples on each machine, however slow."""

from hypothesis import settings

settings.register_profile("protocol", derandomize=True, deadline=None)
settings.load_profile("protocol")
