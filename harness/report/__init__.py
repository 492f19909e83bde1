"""Reports: pages of sections, summaries, figures; from recorded results only, no model runs here."""

from harness.report.text import markdown, summary_lines, write_reports

__all__ = ["markdown", "summary_lines", "write_reports"]
