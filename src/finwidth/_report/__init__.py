"""A result as one HTML page that needs nothing else: no network, no script, no other file."""

from .page import render as render, write_report as write_report

__all__ = ["render", "write_report"]
