"""Layer-wise relevance propagation over what a network computes: rules, composites, the pass, its bookkeeping."""
