"""Stored datasets: rows with ids that survive edits, in Parquet files, written and read in constant memory."""
