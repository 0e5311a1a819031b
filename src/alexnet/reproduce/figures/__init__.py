"""Figures 1 to 4 of the paper, and the figures of the report and of the commands.

Every function returns a `drawing.Drawing` and reads no file, except those that take a run's folder or a data set. The
same input gives the same file, byte for byte. `style.save_figure` writes PNG and SVG.
"""
