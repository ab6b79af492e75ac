"""Finite networks: a program run at a finite width, and compared with its limit.

network.py: `init` and `apply`. empirical.py: kernels of one network. verify.py: their deviation from the limits.
"""
