"""What a study's numbers mean: data frames in, data frames out, one concept per file.

``long`` brings runs and documents into one form, ``curves`` and ``inflection`` read a curve against pre-training tokens,
``optima`` and ``tuned`` the learning rate, ``compare`` two checkpoints, ``design`` what a study could see before it runs.
"""
