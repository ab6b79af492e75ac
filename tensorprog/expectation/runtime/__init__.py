"""What compiled kernels run: each file is inlined verbatim into them, so each imports only jax, numpy and other files
here.
"""
