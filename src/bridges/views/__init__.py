"""Data for looking at runs: lists, comparisons and pages of charts. Nothing here prints."""
