"""What the notebooks share: data, models, training, evidence, figures.

Not installed: the notebooks' first cell puts the repository's root on the path.
"""
