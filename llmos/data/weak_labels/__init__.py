"""Weak labels: rules that vote on rows or abstain, and the models that make one label of their votes."""
