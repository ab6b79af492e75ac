"""The program: types, order, backward passes, programs built by hand."""
