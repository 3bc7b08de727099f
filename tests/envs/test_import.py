"""What importing the environments costs."""

import subprocess
import sys

SCRIPT = """
import sys
import gymnasium
import rlseq_envs
assert {"rlseq/ConvexHull-v0", "rlseq/Translation-v0"} <= set(gymnasium.registry)
light = not {"numba", "sacrebleu", "sentencepiece"} & set(sys.modules)
import rlseq_envs.convex_hull, rlseq_envs.env, rlseq_envs.translation
heavy = {"torch", "ray", "rlseq", "shapely", "matplotlib"} & set(sys.modules)
print(light, sorted(heavy))
"""


def test_environments_need_no_torch_and_no_ray_and_registering_them_loads_nothing_heavy():
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert result.stdout.split(maxsplit=1) == ["True", "[]\n"]
