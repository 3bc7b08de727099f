"""A comparison as a web page, as LaTeX tables and as CSV, from its JSON."""

from rlseq.report.page.html import comparison_page
from rlseq.report.page.tables import comparison_csv, comparison_latex

__all__ = ["comparison_csv", "comparison_latex", "comparison_page"]
