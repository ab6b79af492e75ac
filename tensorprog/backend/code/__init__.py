"""Python source as a tree: expressions and statements, what can be asked of them, and the one printer."""
