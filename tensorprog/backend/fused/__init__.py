"""Recursions whose cross stream is a few numbers for each pair of samples, as one accelerator kernel.

The plain lowering writes every layer's table of all pairs to memory and reads it again. Where each entry depends on
entries of the same pair alone (a chain of layers without positions), a tile of pairs can stay in registers from the
Gram of the inputs to the kernel of the output:

    chain.py   which recursions these are, and what their entries are
    writer.py  the source of `tile`, which takes one tile of pairs through all layers
    launch.py  the Pallas kernel around it: blocks, masks, NTK by derivative
    kernel.py  the Kernel that uses it
"""
