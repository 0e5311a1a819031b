"""The documentation site: `python -m docsite.build` makes it from docs/ and from the package itself."""
