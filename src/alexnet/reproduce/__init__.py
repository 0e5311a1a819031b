"""The paper's claims, tables and figures, measured again, and the report of a run.

`claims` (what the paper claims), `measures` (test one: `tuning`, `runs`, `quantities`, `verdicts`, `significance`),
`outcome` and `results` (a JSON line for each), `compare` (networks side by side), `tables` (Tables 1 and 2), `figures/`
(Figures 1 to 4 and others), `report/` (report.html), `demo`. Import from these modules; the package imports nothing.
"""
