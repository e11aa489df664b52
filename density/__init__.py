"""The science in plain torch: spaces, densities, calibration, guardrails, optimisation, files and plots.

No node uses these; they are for scripts: `slerp_on_shell` goes from one rare embedding to another without leaving their
rarity, `RepelGuardrail` keeps away from a density or from examples, `session_gains` says what each picture of a session
teaches after those before it, `vendi_score` counts what is different in a set, and `drop_unusable` cleans vectors before
they are `Embeddings`.
"""

from .band import BandLoss, log_gaussian
from .belief import Belief
from .calibration import MAX_ONE_IN, Calibration, bits_from_one_in, one_in_from_bits
from .charts import bar_chart
from .checkpoints import all_checkpoints, pick_checkpoint
from .concept import Concept
from .contrast import ContrastGuardrail
from .curves import arousal_curve
from .directions import Direction
from .diversity import density_and_coverage, mean_pairwise_distance, rarity_score, vendi_score
from .embeddings import Embeddings, drop_unusable
from .errors import RarityError
from .exposure import ExposureMemory
from .files import (
    inspect_file,
    load_concept,
    load_density,
    load_embeddings,
    load_exposure,
    safe_path,
    save_concept,
    save_density,
    save_embeddings,
    save_exposure,
    stream_embeddings,
)
from .fit import CHOICES, fit_density
from .gates import ON_NO, Gate, Pullback
from .gaussian import ESTIMATORS, GaussianDensity
from .guardrails import AnchorGuardrail, Guardrail, NormGuardrail, ResidualGuardrail
from .information import information_gain, session_gains
from .merge import merge_densities
from .mixture import MixtureDensity
from .moments import Moments
from .neighbour_density import NeighbourDensity
from .neighbours import kth_radii, nearest
from .novelty import Novelty, conformity, score_novelty
from .optimize import optimize
from .originality import Originality, originality
from .plots import density_map
from .ranking import most_novel, rank
from .repel import RepelGuardrail
from .sheets import annotated, beside_nearest, contact_sheet
from .shrinkage import RadialMoments, ledoit_wolf, oas, shrink
from .spaces import EmbeddingSpace
from .starts import choose_starts
from .statistics import Statistics
from .trajectory import Trajectory
from .variation import slerp_on_shell, variations

__all__ = [
    "CHOICES",
    "ESTIMATORS",
    "MAX_ONE_IN",
    "ON_NO",
    "AnchorGuardrail",
    "BandLoss",
    "Belief",
    "Calibration",
    "Concept",
    "ContrastGuardrail",
    "Direction",
    "EmbeddingSpace",
    "Embeddings",
    "ExposureMemory",
    "Gate",
    "GaussianDensity",
    "Guardrail",
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
    "Statistics",
    "Trajectory",
    "all_checkpoints",
    "annotated",
    "arousal_curve",
    "bar_chart",
    "beside_nearest",
    "bits_from_one_in",
    "choose_starts",
    "conformity",
    "contact_sheet",
    "density_and_coverage",
    "density_map",
    "drop_unusable",
    "information_gain",
    "fit_density",
    "inspect_file",
    "kth_radii",
    "ledoit_wolf",
    "load_concept",
    "load_density",
    "load_embeddings",
    "load_exposure",
    "log_gaussian",
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
    "safe_path",
    "save_concept",
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
