"""ComfyUI nodes: thin shells over `generators` and `density`, one file a topic.

Ids, sockets, the order of inputs and their defaults are append-only: saved workflows hold them by position.
"""

from comfy_api.latest import ComfyExtension

from .baseline_nodes import RarityBaselineFromModel, RaritySeedVariety
from .bridge_nodes import RarityFromClipVisionOutput, RarityToClipVisionOutput
from .checkpoint_nodes import RarityInterestCurve, RarityPickStep
from .concept_nodes import RarityMakeRareConcept, RaritySampleConcept
from .conditioning_nodes import RarityMakeRareConditioning, RarityMakeRareWord
from .density_nodes import (
    RarityDensityMap,
    RarityDescribeDensity,
    RarityFitDensity,
    RarityMergeDensities,
    RarityUsualInWords,
)
from .embedding_nodes import RarityEncodeImages, RarityJoinEmbeddings, RarityLoadOpenCLIP, RaritySelectEmbeddings
from .file_nodes import (
    RarityExportConcept,
    RarityLoadConcept,
    RarityLoadDensity,
    RarityLoadEmbeddings,
    RarityLoadExposure,
    RaritySaveFile,
)
from .guardrail_nodes import (
    RarityAnchorGuardrail,
    RarityContrastGuardrail,
    RarityLoadJudge,
    RarityResidualGuardrail,
    RarityValidityGate,
)
from .kandinsky_nodes import RarityDecodeKandinsky, RarityLoadKandinsky, RaritySamplePrior
from .local_score_nodes import RarityLoadPictures, RarityLocalScore, RarityPatchOrigins
from .novelty_nodes import (
    RarityCheckOriginality,
    RarityContactSheet,
    RarityExposureUpdate,
    RarityMeasureVariety,
    RarityRankImages,
    RarityScoreNovelty,
)
from .optimize_nodes import RarityDial, RarityMakeRare, RaritySteerTowards
from .parts.nothing import refuse_nothing
from .parts.said import speak_up
from .parts.upstream import watch
from .wording_nodes import RarityOtherWordings

NODES = [
    RarityLoadKandinsky,
    RaritySamplePrior,
    RarityDecodeKandinsky,
    RarityFitDensity,
    RarityDensityMap,
    RarityDescribeDensity,
    RarityAnchorGuardrail,
    RarityResidualGuardrail,
    RarityContrastGuardrail,
    RarityMakeRare,
    RarityContactSheet,
    RaritySaveFile,
    RarityLoadDensity,
    RarityEncodeImages,
    RaritySelectEmbeddings,
    RarityScoreNovelty,
    RarityRankImages,
    RarityExposureUpdate,
    RarityMeasureVariety,
    RarityCheckOriginality,
    RarityLoadEmbeddings,
    RarityLoadExposure,
    RarityMergeDensities,
    RaritySteerTowards,
    RarityLocalScore,
    RarityPatchOrigins,
    RarityPickStep,
    RarityInterestCurve,
    RarityLoadOpenCLIP,
    RarityFromClipVisionOutput,
    RarityToClipVisionOutput,
    RarityJoinEmbeddings,
    RarityMakeRareConcept,
    RaritySampleConcept,
    RarityLoadConcept,
    RarityExportConcept,
    RarityLoadJudge,
    RarityValidityGate,
    RarityBaselineFromModel,
    RarityMakeRareConditioning,
    RarityMakeRareWord,
    RarityDial,
    RaritySeedVariety,
    RarityUsualInWords,
    RarityOtherWordings,
    RarityLoadPictures,
]

for node in NODES:
    refuse_nothing(node)
    speak_up(node)


class RarityExtension(ComfyExtension):
    """What `comfy_entrypoint` returns: the list of this pack's nodes."""

    async def get_node_list(self):
        """Return the node classes in the order of the pack's menu."""
        watch()
        return list(NODES)
