"""A trained network -> errors, class names, features."""
