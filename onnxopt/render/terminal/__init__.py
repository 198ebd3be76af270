"""Reports as rich renderables, one file per report, laid out for 80 columns."""
