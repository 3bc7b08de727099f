"""The engine on RLlib's new API stack: algorithm, runners, module, learners. The only package that imports ray."""
