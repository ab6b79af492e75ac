"""Recursion → trees of code: tables in the order of their loops, their entries node by node."""
