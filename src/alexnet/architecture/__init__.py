"""Every number of the paper and of its variants, and the arithmetic on them. No torch.

spec.py and recipe.py define the fields of a network and of a training recipe, with the paper's values as defaults.
network_presets.py and recipe_presets.py have the named ones, overrides.py the `--set` option, arithmetic.py
`alexnet explain`, explain_diff.py `alexnet explain --diff`, explorer.py its web page.
"""
