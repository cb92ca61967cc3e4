"""Pictures of explanations: colour maps, overlays, boxes, HTML report. Knows numpy and Pillow only."""

from seewhy.render.boxes import Box, boxes
from seewhy.render.colormaps import DIVERGING, INFERNO, Colormap, colorize
from seewhy.render.overlay import Panel, figure, overlay, save_png
from seewhy.render.report import MethodInfo, Prediction, Report, Row, fragment

__all__ = [
    "DIVERGING",
    "INFERNO",
    "Box",
    "Colormap",
    "MethodInfo",
    "Panel",
    "Prediction",
    "Report",
    "Row",
    "boxes",
    "colorize",
    "figure",
    "fragment",
    "overlay",
    "save_png",
]
