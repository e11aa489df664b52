"""ComfyUI nodes: thin shells over `generators` and `density`, one file a topic.

Ids, sockets, the order of inputs and their defaults are append-only: saved workflows hold them by position.
"""

from comfy_api.latest import ComfyExtension

from .bridges import RarityFromClipVisionOutput, RarityFromOtherPacks, RarityToClipVisionOutput, RarityToOtherPacks
from .checkpoints import RarityArousalCurve, RarityPickCheckpoint
from .concepts import RarityLearnConcept, RaritySampleConcept
from .conditioning import RarityOptimizeConditioning, RarityOptimizeToken
from .density import RarityDensityMap, RarityDescribeDensity, RarityFitDensity, RarityMergeDensities
from .embeddings import RarityEncodeImages, RarityJoinEmbeddings, RarityLoadOpenCLIP, RaritySelectEmbeddings
from .files import (
    RarityExportConcept,
    RarityLoadConcept,
    RarityLoadDensity,
    RarityLoadEmbeddings,
    RarityLoadExposure,
    RaritySaveConcept,
    RaritySaveDensity,
    RaritySaveEmbeddings,
    RaritySaveExposure,
)
from .guardrails import RarityAnchorGuardrail, RarityContrastGuardrail, RarityResidualGuardrail, RarityValidityGate
from .kandinsky import RarityDecode, RarityLoadKandinsky, RaritySamplePrior
from .local_score import RarityLocalScore, RarityPatchOrigins
from .nothing import refuse_nothing
from .novelty import RarityContactSheet, RarityExposureUpdate, RarityRankImages, RarityScoreNovelty
from .optimize import RarityDirection, RarityOptimize
from .sets import RarityDiversity, RarityOriginality
from .stable_diffusion import RarityBaselineFromModel

NODES = [
    RarityLoadKandinsky,
    RaritySamplePrior,
    RarityDecode,
    RarityFitDensity,
    RarityDensityMap,
    RarityDescribeDensity,
    RarityAnchorGuardrail,
    RarityResidualGuardrail,
    RarityContrastGuardrail,
    RarityOptimize,
    RarityContactSheet,
    RaritySaveDensity,
    RarityLoadDensity,
    RarityEncodeImages,
    RaritySelectEmbeddings,
    RarityScoreNovelty,
    RarityRankImages,
    RarityExposureUpdate,
    RarityDiversity,
    RarityOriginality,
    RaritySaveEmbeddings,
    RarityLoadEmbeddings,
    RaritySaveExposure,
    RarityLoadExposure,
    RarityMergeDensities,
    RarityDirection,
    RarityLocalScore,
    RarityPatchOrigins,
    RarityPickCheckpoint,
    RarityArousalCurve,
    RarityLoadOpenCLIP,
    RarityFromClipVisionOutput,
    RarityToClipVisionOutput,
    RarityFromOtherPacks,
    RarityToOtherPacks,
    RarityJoinEmbeddings,
    RarityLearnConcept,
    RaritySampleConcept,
    RaritySaveConcept,
    RarityLoadConcept,
    RarityExportConcept,
    RarityValidityGate,
    RarityBaselineFromModel,
    RarityOptimizeConditioning,
    RarityOptimizeToken,
]

for node in NODES:
    refuse_nothing(node)


class RarityExtension(ComfyExtension):
    """What `comfy_entrypoint` returns: the list of this pack's nodes."""

    async def get_node_list(self):
        """Return the node classes in the order of the pack's menu."""
        return list(NODES)
