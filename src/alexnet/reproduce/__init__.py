"""The paper's claims, tables and figures, measured again, and the report of a run.

`claims` (what the paper claims), `runs` and `measures` (train and measure), `outcome` (difference, interval, verdict),
`results` (results file and docs/results.md), `compare` (networks side by side), `tables` (Tables 1 and 2), `figures/`
(Figures 1 to 4 and others), `report/` (report.html), `demo`. Import from these modules; the package imports nothing.
"""
