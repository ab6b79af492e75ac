"""What generated modules are made of besides their own recursion: each file is inlined into them as it stands."""
