"""Frames in, figures and one self-contained page out; every number comes from ``overtrain.analysis``.

``view`` says which curves a frame holds, ``scores`` brings their scores into the long form, ``assemble`` calls the
analysis, ``figures`` and ``page`` draw and write what it returns. Scores and names enter the page; model text never does.
"""
