"""Embedding networks: how they are trained, and why two pictures match."""
