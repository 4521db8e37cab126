"""What the notebooks share: data, models, training, evidence, figures. Not installed: their first cell puts the root on the path."""
