"""The run report: one self-contained HTML page made from a results file. Nothing in it is loaded from elsewhere.

recorded_run  SQL over the results file -> RecordedRun, a value
axes          ticks and labels of an axis
charts        charts as numbers: the paths and bars of a drawing, its ticks and its texts
page          RecordedRun -> the page
templates     its HTML (Jinja2), style and script
"""

from rabbitray.cluster.results.report.page import page
from rabbitray.cluster.results.report.recorded_run import Ask, RecordedRun, read_run

__all__ = ["Ask", "RecordedRun", "page", "read_run"]
