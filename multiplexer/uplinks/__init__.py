"""Uplinks: where a network meets the outside.  Set-up and link state, no frame."""
