"""The processes of multiplexerd."""
