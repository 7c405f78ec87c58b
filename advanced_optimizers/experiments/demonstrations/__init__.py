"""What the toolbox notebooks show without recorded runs: small computations, each with an exact or testable outcome.

Nothing of an optimizer, a layer or a solver is written anew here: torch, scikit-learn and scipy do the work.
"""
