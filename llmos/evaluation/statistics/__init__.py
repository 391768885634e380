"""Statistics: intervals of metrics by resampling, and two models compared on the same rows."""
