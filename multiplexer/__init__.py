"""The multiplexer: virtual interfaces for many users on one network card."""
