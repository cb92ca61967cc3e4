"""Attention filters: one non-negative or signed weight per position that keeps, or raises, what a network answers."""
