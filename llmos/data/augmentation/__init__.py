"""Augmentation: changed copies of training rows. A file for each augmenter, one for each family of rows."""
