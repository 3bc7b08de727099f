"""What importing the environments costs."""

import subprocess
import sys

SCRIPT = """
import sys
import gymnasium
import rlseq_envs
assert {"rlseq/ConvexHull-v0", "rlseq/Tape-v0", "rlseq/Translation-v0"} <= set(gymnasium.registry)
light = not {"numba", "sacrebleu", "sentencepiece"} & set(sys.modules)
import rlseq_envs.tasks.convex_hull, rlseq_envs.env, rlseq_envs.tasks.tape, rlseq_envs.tasks.translation
heavy = {"torch", "ray", "rlseq", "shapely", "matplotlib"} & set(sys.modules)
print(light, sorted(heavy))
"""
IN_ANY_ORDER = """
import {first}, {second}
import gymnasium
print({{"rlseq/ConvexHull-v0", "rlseq/Tape-v0", "rlseq/Translation-v0"}} <= set(gymnasium.registry))
"""


def run(script):
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


def test_environments_need_no_torch_and_no_ray_and_registering_them_loads_nothing_heavy():
    assert run(SCRIPT) == "True []\n"


def test_environments_are_registered_whatever_is_imported_first():
    for first, second in (("gymnasium", "rlseq_envs"), ("rlseq_envs", "gymnasium"), ("rlseq_envs.settings", "json")):
        assert run(IN_ANY_ORDER.format(first=first, second=second)) == "True\n"
