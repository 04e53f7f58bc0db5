"""Further words under which the canvas's search finds a node, in English, Chinese and Japanese.

They are the words of people who do not know ours: what they want ("text rendering"), what they read about
("grpo"), or what other programs call it.
"""

from __future__ import annotations

ALIASES: dict[str, tuple[str, ...]] = {
    "GDRO_LoadBaseModel": ("load model", "diffusers", "加载模型", "模型", "モデル読み込み"),
    "GDRO_PromptSet": ("prompts", "text list", "wildcards", "提示词", "プロンプト"),
    "GDRO_GroupRollout": ("rollout", "batch", "dataset", "采样", "批量生成", "サンプリング", "生成"),
    "GDRO_ImportGroups": ("import", "my pictures", "导入", "图片文件夹", "読み込み", "画像フォルダ"),
    "GDRO_OCRReward": (
        "text rendering", "spelling", "typography", "letters", "文字", "文字渲染", "拼写", "文字描画",
        "スペル",
    ),
    "GDRO_CompositionReward": (
        "count", "objects", "prompt following", "构图", "计数", "遵循提示词", "構図", "数", "忠実さ",
    ),
    "GDRO_VLMReward": (
        "llm judge", "vlm", "vision language model", "gpt", "qwen-vl", "大模型评审", "评审", "LLM 判定",
        "審査",
    ),
    "GDRO_PairwiseReward": ("llm judge", "rank", "compare pairs", "两两比较", "排名", "比較", "順位"),
    "GDRO_PreferenceReward": (
        "beauty", "style", "human preference", "clip", "美学", "偏好", "风格", "美的", "好み", "画風",
    ),
    "GDRO_ImageQualityReward": ("quality", "noise", "blur", "画质", "模糊", "画質", "ぼけ"),
    "GDRO_SimilarityReward": (
        "face", "style", "likeness", "reference image", "人脸", "风格", "相似", "参考图", "顔", "画風",
        "似ている",
    ),
    "GDRO_InstalledReward": ("extension", "my reward", "自定义奖励", "拡張", "独自の報酬"),
    "GDRO_RolloutImages": ("images", "split", "图像列表", "画像一覧"),
    "GDRO_MeasureImage": ("measure", "亮度", "对比度", "锐度", "明るさ", "コントラスト", "鮮明さ"),
    "GDRO_ScoresFromGraph": ("score", "number", "评分", "自定义奖励", "スコア", "独自の報酬"),
    "GDRO_RatingReward": (
        "rank", "ranking", "my taste", "a/b", "人工评分", "排序", "品味", "手動評価", "順位", "好み",
    ),
    "GDRO_CombineRewards": ("sum", "weighted", "pareto", "组合", "加权", "組み合わせ", "重み"),
    "GDRO_ScoreRollout": ("reward", "histogram", "打分", "直方图", "採点", "ヒストグラム"),
    "GDRO_RewardCheck": ("test reward", "sanity check", "检查奖励", "诊断", "報酬の確認", "診断"),
    "GDRO_TrainLoRA": (
        "grpo", "flow-grpo", "dgpo", "gdro", "lora training", "train lora", "reinforcement learning",
        "fine-tune", "训练", "强化学习", "微调", "对齐", "学習", "強化学習", "微調整",
    ),
    "GDRO_EvaluateAlignment": ("compare", "before after", "statistics", "评估", "对比", "評価", "比較"),
    "GDRO_CompareRollouts": ("compare", "before after", "side by side", "对比", "并排", "比較", "並べて"),
    "GDRO_Generate": ("draw", "text to image", "生成", "文生图", "画像生成"),
    "GDRO_LoadAlignedLoRA": ("load lora", "apply lora", "加载 LoRA", "LoRA 読み込み"),
    "GDRO_AlignedFromFile": ("open lora", "warm start", "继续训练", "学習の再開"),
    "GDRO_ModelForComfyUI": ("to comfyui", "unwrap", "转换模型", "変換"),
    "GDRO_ModelFromWires": ("from comfyui", "my model", "wrap", "我的模型", "自分のモデル"),
}  # fmt: skip
