"""Further names by which modules are called: a folder on the package's own search path.

`ml_pipeline.report` is `aliases/report.py`. Programs of the contract, saved models and workflows
that stand in people's repositories name them; the code itself imports from the rooms.
"""
