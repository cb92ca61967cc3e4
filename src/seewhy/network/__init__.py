"""Everything that touches an `nn.Module`, and leaves it exactly as it was."""
