"""Training: `build(RunSpec(data, arch, recipe, out)).fit()` trains a network and leaves a run folder.

Read `step.py` (one update), then `trainer.py` (the loop around it), then `build.py` (what the loop works on).
"""
