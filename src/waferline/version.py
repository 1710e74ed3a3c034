"""The version, for whoever must tell yesterday's results from today's."""

__version__ = "0.1.0"
