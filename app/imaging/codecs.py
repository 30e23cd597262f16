"""Settings of Pillow and OpenCV, made once per process."""

import logging
import warnings

import cv2
import pillow_heif
from PIL import AvifImagePlugin, Image


def configure_codecs(max_pixels: int) -> None:
    """Call once, when a process starts. ``max_pixels``: the largest limit that `inspect` will get."""
    Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow raises at twice this, also for the later frames of a GIF
    # What Pillow warns and logs about a caller's image quotes the file, and an operator can do nothing about it.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    # Requests share the cores: threads within one image would compete for them.
    cv2.setNumThreads(1)
    AvifImagePlugin.DEFAULT_MAX_THREADS = pillow_heif.options.DECODE_THREADS = 1
    # No line on stderr for each broken image. Those that libpng, libjpeg and libtiff print cannot be switched off.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
