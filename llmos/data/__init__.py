"""Data: labelled rows in: formats, columns, checks, splits and datasets. No torch."""
