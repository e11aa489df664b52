"""ComfyUI nodes: thin shells over `generators` and `density`, one file a topic.

Ids, sockets, the order of inputs and their defaults are append-only: saved workflows hold them by position.
"""

from comfy_api.latest import ComfyExtension

from .baseline_nodes import RarityBaselineFromModel, RarityVarySeeds
from .bridge_nodes import RarityFromClipVisionOutput, RarityFromOtherPacks, RarityToClipVisionOutput, RarityToOtherPacks
from .checkpoint_nodes import RarityArousalCurve, RarityPickCheckpoint
from .concept_nodes import RarityLearnConcept, RaritySampleConcept
from .conditioning_nodes import RarityOptimizeConditioning, RarityOptimizeToken
from .density_nodes import RarityDensityMap, RarityDescribeDensity, RarityFitDensity, RarityMergeDensities
from .embedding_nodes import RarityEncodeImages, RarityJoinEmbeddings, RarityLoadOpenCLIP, RaritySelectEmbeddings
from .file_nodes import (
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
from .guardrail_nodes import RarityAnchorGuardrail, RarityContrastGuardrail, RarityResidualGuardrail, RarityValidityGate
from .kandinsky_nodes import RarityDecode, RarityLoadKandinsky, RaritySamplePrior
from .local_score_nodes import RarityLocalScore, RarityPatchOrigins
from .novelty_nodes import RarityContactSheet, RarityExposureUpdate, RarityRankImages, RarityScoreNovelty
from .optimize_nodes import RarityDirection, RarityOptimize
from .parts.nothing import refuse_nothing
from .set_nodes import RarityDiversity, RarityOriginality

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
    RarityVarySeeds,
]

for node in NODES:
    refuse_nothing(node)


class RarityExtension(ComfyExtension):
    """What `comfy_entrypoint` returns: the list of this pack's nodes."""

    async def get_node_list(self):
        """Return the node classes in the order of the pack's menu."""
        return list(NODES)
