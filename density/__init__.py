"""The science in plain torch: spaces, densities, calibration, guardrails, optimisation, files and plots."""

from .calibration import MAX_ONE_IN, Calibration, bits_from_one_in, one_in_from_bits
from .diversity import density_and_coverage, mean_pairwise_distance, rarity_score, rke, vendi_score
from .embeddings import Embeddings, drop_unusable
from .errors import RarityError
from .files import inspect_file, load_density, load_embeddings, safe_path, save_density, save_embeddings
from .gaussian import GaussianDensity
from .guardrails import AnchorGuardrail, ContrastGuardrail, Guardrail, NormGuardrail, ResidualGuardrail
from .moments import Moments
from .neighbours import kth_radii, nearest
from .optimize import choose_starts, optimize
from .plots import contact_sheet, density_map
from .spaces import EmbeddingSpace
from .trajectory import Trajectory

__all__ = [
    "MAX_ONE_IN",
    "AnchorGuardrail",
    "Calibration",
    "ContrastGuardrail",
    "EmbeddingSpace",
    "Embeddings",
    "GaussianDensity",
    "Guardrail",
    "Moments",
    "NormGuardrail",
    "RarityError",
    "ResidualGuardrail",
    "Trajectory",
    "bits_from_one_in",
    "choose_starts",
    "contact_sheet",
    "density_and_coverage",
    "density_map",
    "drop_unusable",
    "inspect_file",
    "kth_radii",
    "load_density",
    "load_embeddings",
    "mean_pairwise_distance",
    "nearest",
    "one_in_from_bits",
    "optimize",
    "rarity_score",
    "rke",
    "safe_path",
    "save_density",
    "save_embeddings",
    "vendi_score",
]
