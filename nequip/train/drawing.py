"""What a run draws of its frames in each epoch, as its configuration says."""

from __future__ import annotations

from dataclasses import replace

from nequip.config.schema import RunConfig
from nequip.data.dataset import GraphDataset
from nequip.data.draws import Directions, Draws, Noise, Waves
from nequip.train.prepare import PreparedData, Replay


def with_draws(data: PreparedData, config: RunConfig) -> PreparedData:
    """The data of a run: training frames with noise, directions and waves, validation frames without noise.

    Those of validation frames are the same in every epoch.
    """
    train = Draws(_noise(config), _directions(config), _waves(config), config.seed)
    val = replace(train, noise=None)
    replay = data.replay
    if replay is not None:
        replay = Replay(_drawing(replay.train, train), _drawing(replay.val, val), replay.ratio)
    return replace(data, train=_drawing(data.train, train), val=_drawing(data.val, val), replay=replay)


def _drawing(dataset: GraphDataset, draws: Draws) -> GraphDataset:
    nothing = draws.noise is None and draws.directions is None and draws.waves is None
    return dataset if nothing else dataset.with_draws(draws)


def _noise(config: RunConfig) -> Noise | None:
    dens = config.train.dens
    if dens is None:
        return None
    sigma = dens.sigma if isinstance(dens.sigma, tuple) else (dens.sigma, dens.sigma)
    return Noise(dens.probability, dens.ratio, sigma)


def _directions(config: RunConfig) -> Directions | None:
    term = config.train.loss.hessian
    return None if term is None else Directions(term.directions, term.num_directions)


def _waves(config: RunConfig) -> Waves | None:
    term = config.train.loss.force_constants
    return None if term is None else Waves(term.num_waves)
