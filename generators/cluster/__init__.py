"""Baselines and archives that are too large for one machine, on a running Dask cluster or one that is started here."""

from .conductor import SHARD, draw_baseline, fit_pictures, shard_folder
from .connection import connect

__all__ = ["SHARD", "connect", "draw_baseline", "fit_pictures", "shard_folder"]
