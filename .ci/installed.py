"""Check an installation from the wheel, away from the checkout: models registered, tasks found, both stop at uninstall."""

import subprocess
import sys
from pathlib import Path

import overtrain_tasks

assert "site-packages" in str(overtrain_tasks.path()), overtrain_tasks.path()
known = (
    "import lm_eval.models; from lm_eval.api.registry import model_registry as r; print('overtrain_ft' in r, 'hf' in r)"
)
found = subprocess.run([sys.executable, "-c", known], capture_output=True, text=True, check=True).stdout.split()
assert found == ["True", "True"], found
folder = subprocess.run(
    [Path(sys.executable).parent / "overtrain", "tasks"], capture_output=True, text=True, check=True
).stdout.strip()
assert (Path(folder) / "generalist" / "ten.yaml").is_file(), folder
sys.stdout.write(f"installed from the wheel: models registered, tasks under {Path(folder).name}\n")
