"""Frames in, figures and one self-contained page out; every number comes from ``overtrain.analysis``.

``assemble`` turns a study's frames into `data.ReportData`: its curves, its measures, what is selected at every checkpoint, and
the frames that the ``sections`` compute. ``build`` draws and writes what the sections show. Scores and names enter the page;
model text never does.
"""
