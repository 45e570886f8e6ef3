"""Reports: sums over many rows, as JSON and for spreadsheets."""
