"""Exports: the rows of a dataset as files of the formats that people's other tools read."""
