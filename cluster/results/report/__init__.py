"""The run report: one self-contained HTML page made from a results file. Nothing in it is loaded from elsewhere.

reading   SQL over the results file -> Run, a value
markup    escaped HTML
scale     ticks and labels of an axis
charts    SVG drawn from numbers
tables    tables drawn from rows
page      Run -> the page
"""

from rabbitray.cluster.results.report.page import page
from rabbitray.cluster.results.report.reading import Ask, Run, read_run

__all__ = ["Ask", "Run", "page", "read_run"]
