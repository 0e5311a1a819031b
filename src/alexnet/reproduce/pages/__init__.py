"""Offline HTML pages of images: every mistake of a network, and a map of images by their features.

Each page is one file that makes no request. Thumbnails are data URIs. Colors follow the reader's light or dark theme.
"""
