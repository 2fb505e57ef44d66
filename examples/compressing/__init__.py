"""Compressed students made from a teacher: by cutting, by changing weights in place, by training."""
