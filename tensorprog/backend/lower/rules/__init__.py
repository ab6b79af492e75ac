"""The lowerings: a file to a kind of node, each of which registers itself with `lowering`."""
