"""What importing the environments costs."""

import subprocess
import sys

SCRIPT = """
import sys
import gymnasium
import rlseq_envs
assert {"rlseq/ConvexHull-v0", "rlseq/Translation-v0"} <= set(gymnasium.registry)
light = not {"numba", "sacrebleu", "sentencepiece"} & set(sys.modules)
import rlseq_envs.tasks.convex_hull, rlseq_envs.env, rlseq_envs.tasks.translation
heavy = {"torch", "ray", "rlseq", "shapely", "matplotlib"} & set(sys.modules)
print(light, sorted(heavy))
"""
SETTINGS = """
import sys
known = set(sys.modules)
import rlseq_envs.settings
loaded = {name.partition(".")[0] for name in set(sys.modules) - known}
print(sorted(loaded - sys.stdlib_module_names))
rlseq_envs.register("mine/Task-v0", "mine:Task")
import gymnasium
print({"mine/Task-v0", "rlseq/ConvexHull-v0", "rlseq/Translation-v0"} <= set(gymnasium.registry))
"""


def run(script):
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


def test_environments_need_no_torch_and_no_ray_and_registering_them_loads_nothing_heavy():
    assert run(SCRIPT) == "True []\n"


def test_settings_need_the_standard_library_alone_and_gymnasium_may_come_later():
    assert run(SETTINGS) == "['rlseq_envs']\nTrue\n"
