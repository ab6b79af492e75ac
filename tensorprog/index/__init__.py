"""Indices: affine forms, bounds, ranges, conditions, solving for one index, rows of integers, names that are free."""
