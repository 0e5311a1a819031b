"""Every number of the paper and of its variants, and the arithmetic on them. No torch."""
