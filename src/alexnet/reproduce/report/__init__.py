"""The report of a run, RUN/report.html: results, learning curves, mistakes, architecture, recipe.

`page.write_report` writes it. `run_data` reads the run's folder, each `*_sections` module prepares a part of the page,
and the template report.html lays them out.
"""
