"""Interpretability: what happens inside a network, and which pixels a prediction depends on.

`activations` measures units and gradients, `health` turns the measurements into findings, `attribution` computes
Grad-CAM and similar maps, `top_patches` finds the image patches that activate a unit most.
"""
