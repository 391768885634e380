"""Rollouts: a candidate on live traffic beside the promoted version, with guards that may be looked at at any time."""
