"""The science in plain torch: spaces, densities, calibration, guardrails, optimisation, files and plots.

No node uses these; they are for scripts: `slerp_on_shell` goes from one rare embedding to another without leaving their
rarity, `RepelGuardrail` keeps away from a density or from examples, `session_gains` says what each picture of a session
teaches after those before it, `vendi_score` counts what is different in a set, and `drop_unusable` cleans vectors before
they are `Embeddings`.
"""

from .base.embeddings import Embeddings, drop_unusable
from .base.errors import RarityError
from .base.spaces import EmbeddingSpace
from .calibration.surprisal import MAX_ONE_IN, Calibration, bits_from_one_in, one_in_from_bits
from .drawing.bar_chart import bar_chart
from .drawing.contact_sheet import annotated, beside_nearest, contact_sheet
from .drawing.density_map import density_map
from .drawing.interest_curve import interest_curve
from .estimators.choose import CHOICES, fit_density
from .estimators.contract import Density
from .estimators.cross_fit import ESTIMATORS
from .estimators.gaussian import GaussianDensity
from .estimators.merge import merge_densities
from .estimators.mixture import MixtureDensity
from .estimators.nearest import kth_radii, nearest
from .estimators.neighbour_density import NeighbourDensity
from .files.store import (
    inspect_file,
    load_density,
    load_embeddings,
    load_exposure,
    safe_path,
    save_density,
    save_embeddings,
    save_exposure,
    stream_embeddings,
)
from .novelty.belief import Belief
from .novelty.diversity import density_and_coverage, mean_pairwise_distance, rarity_score, vendi_score
from .novelty.exposure import ExposureMemory
from .novelty.information import information_gain, session_gains
from .novelty.kinds import Kinds, Shares, estimate_shares, read_by_texts
from .novelty.originality import Originality, originality
from .novelty.ranking import most_novel, rank
from .novelty.scores import Novelty, conformity, score_novelty
from .statistics.moments import Moments
from .statistics.shrinkage import RadialMoments, ledoit_wolf, oas, shrink
from .statistics.sufficient_statistics import Statistics
from .steering.band import BandLoss, log_gaussian
from .steering.checkpoints import all_checkpoints, pick_checkpoint
from .steering.contrast import ContrastGuardrail
from .steering.directions import Direction
from .steering.gates import ON_NO, Gate, Pullback
from .steering.guardrails import AnchorGuardrail, Guardrail, NormGuardrail, ResidualGuardrail
from .steering.optimize import optimize
from .steering.repel import RepelGuardrail
from .steering.starts import choose_starts, make_rare
from .steering.trajectory import Trajectory
from .steering.variation import slerp_on_shell, variations

__all__ = [
    "CHOICES",
    "ESTIMATORS",
    "MAX_ONE_IN",
    "ON_NO",
    "AnchorGuardrail",
    "BandLoss",
    "Belief",
    "Calibration",
    "ContrastGuardrail",
    "Density",
    "Direction",
    "EmbeddingSpace",
    "Embeddings",
    "ExposureMemory",
    "Gate",
    "GaussianDensity",
    "Guardrail",
    "Kinds",
    "MixtureDensity",
    "Moments",
    "NeighbourDensity",
    "NormGuardrail",
    "Novelty",
    "Originality",
    "Pullback",
    "RadialMoments",
    "RarityError",
    "RepelGuardrail",
    "ResidualGuardrail",
    "Shares",
    "Statistics",
    "Trajectory",
    "all_checkpoints",
    "annotated",
    "interest_curve",
    "bar_chart",
    "beside_nearest",
    "bits_from_one_in",
    "choose_starts",
    "conformity",
    "contact_sheet",
    "density_and_coverage",
    "density_map",
    "drop_unusable",
    "estimate_shares",
    "information_gain",
    "fit_density",
    "inspect_file",
    "kth_radii",
    "ledoit_wolf",
    "load_density",
    "load_embeddings",
    "load_exposure",
    "log_gaussian",
    "make_rare",
    "mean_pairwise_distance",
    "most_novel",
    "merge_densities",
    "nearest",
    "oas",
    "one_in_from_bits",
    "optimize",
    "originality",
    "pick_checkpoint",
    "rank",
    "rarity_score",
    "read_by_texts",
    "safe_path",
    "save_density",
    "save_embeddings",
    "save_exposure",
    "score_novelty",
    "session_gains",
    "shrink",
    "slerp_on_shell",
    "stream_embeddings",
    "variations",
    "vendi_score",
]
