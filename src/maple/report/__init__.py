"""Estimates become a report: one self-contained HTML file, and tables as CSV."""

from maple.report.page import write_report

__all__ = ["write_report"]
