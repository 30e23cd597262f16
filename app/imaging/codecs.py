"""Settings of Pillow and OpenCV, made once per process."""

import logging
import warnings

import cv2
from PIL import Image


def configure_codecs(max_pixels: int) -> None:
    """Call once, when a process starts. ``max_pixels``: the largest limit that `inspect` will get."""
    Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow raises at twice this, also for the later frames of a GIF
    # What Pillow warns and logs about a caller's image quotes the file, and an operator can do nothing about it.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    cv2.setNumThreads(1)  # requests share the cores: threads within one image would compete for them
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # no line on stderr for each broken image
