"""What a module that samples is made of: each file is inlined into it as source."""
