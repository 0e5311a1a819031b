"""A trained network -> class predictions, features, errors.

`predictor.load` gives a `Model` that predicts; `evaluate.evaluate` measures errors over a split; `neighbors` finds
similar images; `validation` collects predictions for a report.
"""
