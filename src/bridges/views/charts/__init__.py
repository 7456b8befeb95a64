"""A self-contained HTML page with the charts of runs."""
