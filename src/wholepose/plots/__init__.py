"""Keypoints and joint angles over time as charts: one page of HTML, or a PNG."""

from wholepose.plots.pages import html_page, png_image
from wholepose.plots.series import Panel, Series, collect_panels

__all__ = ["Panel", "Series", "collect_panels", "html_page", "png_image"]
