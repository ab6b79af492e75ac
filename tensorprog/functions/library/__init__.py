"""One file to a function or family; each registers itself when it is imported."""
