"""The paper's claims, tables and figures, measured again, and the report of a run."""
