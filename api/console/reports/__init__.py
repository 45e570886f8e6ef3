"""The page of reports: `page.py` has its handlers, `filters.py` what is chosen, `rows.py` the table, `chart.py` the chart."""
