"""What a study's numbers mean: data frames in, data frames out, one concept per file.

``long`` and ``layout`` bring runs and documents into one form; ``noise`` and ``contrasts`` say how certain a difference is.
``inflection``, ``shape``, ``verdict`` and ``sentence`` read a curve against pre-training tokens; ``jitter``, ``divergence``,
``robust`` and ``stability`` say what could change the verdict, ``family`` what it is worth among many. ``optima``, ``tuned``
and ``crossfit`` concern the learning rate, ``compare`` and ``equivalence`` two checkpoints, ``checks`` the A/A checks, and
``design`` what a study could see before it runs. Nothing here reads a disk.
"""
