"""Any task as a Markov decision process: one action is one token, and the reward comes at the end."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, cast, get_args

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rlseq_envs.registration import TaskLike, make_task
from rlseq_envs.scoring import RolloutResult, num_actions, score_sequences
from rlseq_envs.source import Padded, source_sizes
from rlseq_envs.spaces import Space
from rlseq_envs.task import END, Bools, Floats, Ints, Reward, SequenceTask, Split, SplitName

__all__ = ["RolloutResult", "SequenceEnv", "SequenceVectorEnv", "score_sequences"]

Observation = dict[str, Any]
Info = dict[str, Any]

# Instances drawn at random from an endless split come from its first 2^31.
_DRAWN_FROM_ENDLESS = 1 << 31


def _observation_space(task: SequenceTask) -> spaces.Dict:
    longest = task.choices.longest
    emitted = {
        "tokens": spaces.Box(0, num_actions(task) - 1, (longest,), np.int64),
        "length": spaces.Discrete(longest + 1),
    }
    fields: dict[str, spaces.Space[Any]] = {}
    for name, field in task.sources.items():
        fields[name] = _field_space(field)
        if field.varying == 1:
            fields[f"{name}_length"] = spaces.Discrete(field.longest[0] + 1)
        elif field.varying:
            fields[f"{name}_length"] = spaces.Box(0, field.longest[1], field.longest[:1], np.int64)
    if taken := fields.keys() & emitted.keys():
        raise ValueError(
            f"{type(task).__name__}.sources: {', '.join(sorted(taken))} is taken: call the field otherwise"
        )
    return spaces.Dict(fields | emitted)


def _field_space(field: Space) -> spaces.Box:
    if field.tokens is not None:
        return spaces.Box(0, field.tokens - 1, field.largest, np.int64)
    if field.dtype == "float32":
        largest = float(np.finfo(np.float32).max)
        return spaces.Box(-largest, largest, field.largest, np.float32)
    bounds = np.iinfo(field.dtype)
    return spaces.Box(bounds.min, bounds.max, field.largest, np.dtype(field.dtype).type)


def _draw(split: Split, generator: np.random.Generator) -> int:
    return split.first + int(generator.integers(_DRAWN_FROM_ENDLESS if split.size is None else split.size))


def _chosen_ids(options: dict[str, Any] | None, count: int) -> Ints | None:
    """The ids asked for in the options of ``reset``, if any."""
    if options is None or options.get("ids") is None:
        return None
    ids = np.atleast_1d(np.asarray(options["ids"]))
    if ids.shape != (count,) or ids.dtype.kind not in "iu":
        raise ValueError(f"options['ids'] must hold {count} integers, got shape {ids.shape} of {ids.dtype}")
    return ids.astype(np.int64)


def _checked_split(name: str) -> SplitName:
    if name not in get_args(SplitName):
        raise ValueError(f"no split {name!r}: use one of {', '.join(get_args(SplitName))}")
    return cast(SplitName, name)


def _no_sources(field: Space, count: int) -> Padded[npt.NDArray[Any]]:
    lengths = np.zeros((count, *field.longest[:-1]), np.int64) if field.varying else None
    return Padded(np.zeros((count, *field.largest), field.dtype), lengths)


class _Episodes:
    """The state of ``count`` episodes, one a row."""

    def __init__(self, task: SequenceTask, count: int) -> None:
        self.task = task
        self.ids = np.zeros(count, np.int64)
        self.fields = {name: _no_sources(field, count) for name, field in task.sources.items()}
        self.limits = np.zeros(count, np.int64)
        self.tokens = np.zeros((count, task.choices.longest), np.int64)
        self.lengths = np.zeros(count, np.int64)
        self.terminated = np.ones(count, np.bool_)
        self.truncated = np.zeros(count, np.bool_)
        self.begun = np.zeros(count, np.bool_)

    @property
    def done(self) -> Bools:
        return self.terminated | self.truncated

    def begin(self, rows: Ints, ids: Ints) -> None:
        """Start these rows on new instances."""
        source = self.task.source(ids)
        self.ids[rows] = ids
        for name, kept in self.fields.items():
            for into, new in zip(kept, source.fields[name], strict=True):
                if into is not None and new is not None:
                    into[rows] = 0
                    place: Any = (rows, *map(slice, new.shape[1:]))
                    into[place] = new
        self.limits[rows] = self.task.length_limits(source_sizes(source))
        self.tokens[rows] = END
        self.lengths[rows] = 0
        self.terminated[rows] = self.truncated[rows] = False
        self.begun[rows] = True

    def emit(self, rows: Ints, actions: Ints) -> None:
        """Append one token to each of these rows."""
        self.tokens[rows, self.lengths[rows]] = actions
        self.lengths[rows] += 1
        is_end, full = actions == END, self.lengths[rows] >= self.limits[rows]
        whole = is_end | (full & (not self.task.ends))
        self.terminated[rows], self.truncated[rows] = whole, full & ~whole

    def reward(self, rows: Ints) -> Reward:
        return self.task.reward(self.tokens[rows], self.lengths[rows], self.ids[rows])

    def observation(self) -> Observation:
        seen = {name: field.values for name, field in self.fields.items()}
        seen |= {f"{name}_length": field.lengths for name, field in self.fields.items() if field.lengths is not None}
        seen |= {"tokens": self.tokens, "length": self.lengths}
        return {name: values.copy() for name, values in seen.items()}

    def action_mask(self) -> npt.NDArray[np.int8]:
        mask = np.ones((len(self.ids), num_actions(self.task)), np.int8)
        mask[:, END] = self.task.ends
        if self.task.choices.points_to is not None:
            lengths = self.fields[self.task.choices.points_to].lengths
            if lengths is not None:
                mask[np.arange(mask.shape[1]) > lengths[:, None]] = 0
        return mask

    def text(self, row: int) -> str:
        """Source, output so far and reference, a line each."""
        shown = self.task.render(int(self.ids[row]), self.tokens[row, : self.lengths[row]])
        return f"source    {shown.source}\noutput    {shown.output}\nreference {shown.reference}"


class SequenceEnv(gym.Env[Observation, np.int64]):
    """Generate one sequence, token by token.

    ## Action Space
    ``Discrete``: the next token; 0 is END. Where the choices follow the source (pointers), there are as many actions as
    the longest source has positions, and END. ``info["action_mask"]`` (int8) marks those that this instance has.

    ## Observation Space
    ``Dict`` of each field of the source (padded with 0) by its name, ``<field>_length`` (its positions) if its size
    varies, ``tokens`` (what was emitted so far, padded with END) and ``length`` (how many tokens that is).

    ## Reward
    0 until the episode ends, then the task's reward; its named parts are then in ``info["reward_components"]``.

    ## Starting State
    An instance drawn from the split, or the one named in ``reset(options={"ids": id})``; ``info["instance_id"]`` is its
    id. Nothing is emitted yet.

    ## Episode End
    END terminates. An episode that reaches the instance's limit without END is truncated and gets the reward of what is
    there; of a task without END, the limit terminates.

    ## Arguments
    ``task``: a task, its class, or ``"module:Class"``. ``split``: where instances are drawn from, default ``"train"``.
    ``render_mode``: None or ``"ansi"``. All others go to the task's constructor.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 - Gymnasium's own annotation

    def __init__(
        self, task: TaskLike, split: SplitName = "train", render_mode: str | None = None, **arguments: Any
    ) -> None:
        """See the class.

        Raises:
            ValueError: The task refuses its arguments.
        """
        self.task = make_task(task, **arguments)
        self.split_name = _checked_split(split)
        self.render_mode = render_mode
        self.observation_space = _observation_space(self.task)
        self.action_space = spaces.Discrete(num_actions(self.task))
        self._episodes = _Episodes(self.task, 1)

    @cached_property
    def split(self) -> Split:
        """Where instances are drawn from; its data is read when it is first asked for."""
        return self.task.instances(self.split_name)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        """Begin an episode; see "Starting State"."""
        super().reset(seed=None if seed is None else int(seed))
        ids = _chosen_ids(options, 1)
        if ids is None:
            ids = np.array([_draw(self.split, self.np_random)])
        self._episodes.begin(np.array([0]), ids)
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Info]:
        """Emit a token.

        Raises:
            ValueError: The token is outside the action space.
            gymnasium.error.ResetNeeded: No episode has begun, or it is over.
        """
        if self._episodes.done[0]:
            state = "is finished" if self._episodes.begun[0] else "has not begun"
            raise gym.error.ResetNeeded(f"the sequence {state}; call reset")
        if not self.action_space.contains(action):
            raise ValueError(f"action {action!r} is outside {self.action_space}")
        row = np.array([0])
        self._episodes.emit(row, np.array([action]))
        value, info = 0.0, self._info()
        if self._episodes.done[0]:
            reward = self._episodes.reward(row)
            value = float(reward.total[0])
            info["reward_components"] = {name: float(part[0]) for name, part in reward.components.items()}
        terminated, truncated = bool(self._episodes.terminated[0]), bool(self._episodes.truncated[0])
        return self._observation(), value, terminated, truncated, info

    def render(self) -> str | None:  # type: ignore[override]
        """Source, output so far and reference as text, in render mode ``"ansi"``."""
        return self._episodes.text(0) if self.render_mode == "ansi" else None

    def action_masks(self) -> Bools:
        """The tokens that can be emitted next, (actions,): what MaskablePPO of sb3-contrib asks an environment for."""
        return self._episodes.action_mask()[0].astype(np.bool_)

    def _observation(self) -> Observation:
        return {name: values[0] for name, values in self._episodes.observation().items()}

    def _info(self) -> Info:
        return {"instance_id": self._episodes.ids[0], "action_mask": self._episodes.action_mask()[0]}


class SequenceVectorEnv(VectorEnv[Observation, npt.NDArray[np.int64], npt.NDArray[Any]]):
    """Generate ``num_envs`` sequences side by side, as ``SyncVectorEnv`` over ``SequenceEnv`` would, but in batches.

    Spaces, reward, starting state and episode end are those of ``SequenceEnv``, batched; infos have Gymnasium's layout,
    ``_key`` marking the rows that ``key`` has a value for. ``rollout`` takes whole sequences instead of steps.

    ## Arguments
    ``task``, ``split``, ``render_mode`` and the task's arguments as for ``SequenceEnv``. ``num_envs``: how many.
    ``autoreset_mode``: ``NEXT_STEP`` (default: the step after an episode's end begins the next, whatever the action) or
    ``DISABLED`` (finished sequences stay as they are, with reward 0, until ``reset(options={"reset_mask": mask})``).
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - Gymnasium's own annotation
        "render_modes": ["ansi"],
        "render_fps": 1,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }
    _MODES: ClassVar = (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED)

    def __init__(
        self,
        task: TaskLike,
        num_envs: int = 1,
        split: SplitName = "train",
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **arguments: Any,
    ) -> None:
        """See the class.

        Raises:
            ValueError: The task refuses its arguments, or the autoreset mode is not offered.
        """
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        if self.autoreset_mode not in self._MODES:
            raise ValueError(f"autoreset mode {self.autoreset_mode.value} is not offered; use NextStep or Disabled")
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.task = make_task(task, **arguments)
        self.split_name = _checked_split(split)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = _observation_space(self.task)
        self.single_action_space = spaces.Discrete(num_actions(self.task))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._episodes = _Episodes(self.task, num_envs)
        self._generators: list[np.random.Generator | None] = [None] * num_envs

    @cached_property
    def split(self) -> Split:
        """Where instances are drawn from; its data is read when it is first asked for."""
        return self.task.instances(self.split_name)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Begin episodes.

        Args:
            seed: Row i is seeded with ``seed + i``, or with ``seed[i]``.
            options: ``ids``: (num_envs,) instances to begin, else drawn. ``reset_mask``: (num_envs,) bool, the rows to
                begin, default all.

        Raises:
            ValueError: Options have the wrong shape or type.
        """
        rows = self._rows_to_reset(options)
        self._seed(rows, seed)
        ids = _chosen_ids(options, self.num_envs)
        self._begin(rows, None if ids is None else ids[rows])
        return self._episodes.observation(), self._info(rows)

    def step(self, actions: Any) -> tuple[Observation, Floats, Bools, Bools, Info]:
        """Emit a token in each unfinished row; see the class for finished ones.

        Raises:
            ValueError: Actions have the wrong shape or are outside the action space.
            gymnasium.error.ResetNeeded: Some rows have never been reset.
        """
        episodes = self._episodes
        if not episodes.begun.all():
            raise gym.error.ResetNeeded(f"rows {np.flatnonzero(~episodes.begun).tolist()} have not begun; call reset")
        actions = self._checked_actions(actions)
        finished = episodes.done
        live = np.flatnonzero(~finished)
        episodes.emit(live, actions[live])
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and finished.any():
            self._begin(np.flatnonzero(finished), None)
        rewards = np.zeros(self.num_envs)
        info = self._info(np.arange(self.num_envs))
        ended = np.flatnonzero(episodes.done & ~finished)
        if len(ended):
            reward = episodes.reward(ended)
            rewards[ended] = reward.total
            info |= self._keyed("reward_components", ended, self._spread(reward.components, ended))
        return episodes.observation(), rewards, episodes.terminated.copy(), episodes.truncated.copy(), info

    def rollout(self, ids: npt.ArrayLike, sequences: npt.ArrayLike, with_potentials: bool = False) -> RolloutResult:
        """Whole sequences in one call, with the result of stepping through them; see ``score_sequences``.

        The batch may have any size; the environment's own episodes are left alone.
        """
        return score_sequences(self.task, ids, sequences, with_potentials)

    def render(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """Source, output so far and reference of each row as text, in render mode ``"ansi"``."""
        if self.render_mode != "ansi":
            return None
        return tuple(self._episodes.text(row) for row in range(self.num_envs))

    def _rows_to_reset(self, options: dict[str, Any] | None) -> Ints:
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return np.arange(self.num_envs)
        if not isinstance(mask, np.ndarray) or mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise ValueError(f"options['reset_mask'] must be a bool array of shape ({self.num_envs},)")
        if not mask.any():
            raise ValueError("options['reset_mask'] marks no row")
        return np.flatnonzero(mask)

    def _seed(self, rows: Ints, seed: int | list[int | None] | None) -> None:
        """Seed these rows; one never seeded gets a generator of its own from the operating system's entropy."""
        if seed is None:
            seed = [None] * self.num_envs
        seeds = [int(seed) + i for i in range(self.num_envs)] if isinstance(seed, int | np.integer) else seed
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} environments")
        for row in rows.tolist():
            if seeds[row] is not None or self._generators[row] is None:
                given = seeds[row]
                self._generators[row], _ = gym.utils.seeding.np_random(None if given is None else int(given))

    def _begin(self, rows: Ints, ids: Ints | None) -> None:
        if ids is None:
            generators = (self._generators[row] for row in rows)
            ids = np.array([_draw(self.split, generator) for generator in generators if generator is not None])
        self._episodes.begin(rows, ids)

    def _checked_actions(self, actions: Any) -> Ints:
        actions = np.asarray(actions)
        count = num_actions(self.task)
        if actions.shape != (self.num_envs,) or actions.dtype.kind not in "iu":
            raise ValueError(f"expected {self.num_envs} integer actions, got shape {actions.shape} of {actions.dtype}")
        if actions.min() < 0 or actions.max() >= count:
            raise ValueError(f"actions {actions.min()} … {actions.max()} leave the action space 0 … {count - 1}")
        checked: Ints = actions.astype(np.int64)
        return checked

    def _info(self, rows: Ints) -> Info:
        """The infos that every step has, for these rows."""
        masks = self._episodes.action_mask()
        absent = np.ones(self.num_envs, np.bool_)
        absent[rows] = False
        masks[absent] = 0
        ids = np.where(absent, 0, self._episodes.ids)
        return self._keyed("instance_id", rows, ids) | self._keyed("action_mask", rows, masks)

    def _keyed(self, key: str, rows: Ints, value: Any) -> Info:
        present = np.zeros(self.num_envs, np.bool_)
        present[rows] = True
        return {key: value, f"_{key}": present}

    def _spread(self, components: dict[str, Floats], rows: Ints) -> Info:
        """Components of these rows in arrays over all rows."""
        spread: Info = {}
        for name, values in components.items():
            column = np.zeros(self.num_envs)
            column[rows] = values
            spread |= self._keyed(name, rows, column)
        return spread
