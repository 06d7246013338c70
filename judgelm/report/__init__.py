"""Numbers -> text, pictures and pages."""

from judgelm.report.page import Written, write_report

__all__ = ["Written", "write_report"]
