"""Saliency of pictures and of maps: what stands out, whatever a network makes of it."""

from seewhy.saliency.context_aware import ContextAwareSaliency, Saliency

__all__ = ["ContextAwareSaliency", "Saliency"]
