"""The stages by node id, in the order of ComfyUI's list. Nodes and headless runner both use this table.

Ids and input names never change, because saved workflows contain them.
"""

from __future__ import annotations

from . import (
    evaluation,
    graph_rewards,
    groups,
    judges,
    models,
    native,
    pairs,
    reward_check,
    rewards,
    similarity,
    training,
)
from .base import MISSING, Input, Output, Stage

__all__ = ["MISSING", "STAGES", "Input", "Output", "Stage"]

STAGES: dict[str, Stage] = {
    "GDRO_LoadBaseModel": models.LOAD_BASE_MODEL,
    "GDRO_PromptSet": groups.PROMPT_SET,
    "GDRO_GroupRollout": groups.GROUP_ROLLOUT,
    "GDRO_ImportGroups": groups.IMPORT_GROUPS,
    "GDRO_OCRReward": rewards.OCR_REWARD,
    "GDRO_CompositionReward": rewards.COMPOSITION_REWARD,
    "GDRO_VLMReward": judges.VLM_REWARD,
    "GDRO_PairwiseReward": pairs.PAIRWISE_REWARD,
    "GDRO_PreferenceReward": judges.PREFERENCE_REWARD,
    "GDRO_ImageQualityReward": rewards.IMAGE_QUALITY_REWARD,
    "GDRO_SimilarityReward": similarity.SIMILARITY_REWARD,
    "GDRO_InstalledReward": rewards.INSTALLED_REWARD,
    "GDRO_RolloutImages": graph_rewards.ROLLOUT_IMAGES,
    "GDRO_MeasureImage": graph_rewards.MEASURE_IMAGE,
    "GDRO_ScoresFromGraph": graph_rewards.SCORES_FROM_GRAPH,
    "GDRO_RatingReward": graph_rewards.RATING_REWARD,
    "GDRO_CombineRewards": graph_rewards.COMBINE_REWARDS,
    "GDRO_ScoreRollout": rewards.SCORE_ROLLOUT,
    "GDRO_RewardCheck": reward_check.REWARD_CHECK,
    "GDRO_TrainLoRA": training.TRAIN_LORA,
    "GDRO_EvaluateAlignment": evaluation.EVALUATE_ALIGNMENT,
    "GDRO_CompareRollouts": evaluation.COMPARE_ROLLOUTS,
    "GDRO_Generate": models.GENERATE,
    "GDRO_LoadAlignedLoRA": native.LOAD_ALIGNED_LORA,
    "GDRO_AlignedFromFile": native.ALIGNED_FROM_FILE,
    "GDRO_ModelForComfyUI": native.MODEL_FOR_COMFYUI,
    "GDRO_ModelFromWires": native.MODEL_FROM_WIRES,
}
