"""The lowerings of nodes for a tile of pairs; each registers itself with `tile_lowering`."""
