"""Check what a built wheel puts at import level, and that tasks, presets and the start-up file are in it."""

import sys
import zipfile

PACKAGES = {"model_wrappers", "overtrain", "overtrain_tasks"}
NEEDED = (
    "lm_eval_overtrain_models.pth",
    "overtrain_tasks/generalist/ten.yaml",
    "overtrain_tasks/perplexity/c4.yaml",
    "model_wrappers/modifications/gaussian.py",
)

names = zipfile.ZipFile(sys.argv[1]).namelist()
top = {n.partition("/")[0] for n in names if ".dist-info/" not in n}
strangers = top - PACKAGES - {"lm_eval_overtrain_models.pth"}
missing = [n for n in NEEDED if n not in names]
caches = [n for n in names if "__pycache__" in n]
if strangers or missing or caches:
    sys.exit(f"wheel: strangers at import level {sorted(strangers)}, missing {missing}, caches {caches[:3]}")
sys.stdout.write(f"wheel: {len(names)} files, import level: {', '.join(sorted(top))}\n")
