"""HTML pages: reports of sequences, and of predicted beside measured changes."""

from crossdna_interpret.report.sequences import write_report
from crossdna_interpret.report.truth import write_truth_page

__all__ = ["write_report", "write_truth_page"]
