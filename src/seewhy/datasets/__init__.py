"""Readers of real datasets, all with one manifest: pictures, labels, boxes, masks, and what was wrong."""

from seewhy.datasets.layouts import KINDS, read, recognise
from seewhy.datasets.manifest import AnnotatedPart, Annotation, ErrorRow, Item, Manifest

__all__ = ["KINDS", "AnnotatedPart", "Annotation", "ErrorRow", "Item", "Manifest", "read", "recognise"]
