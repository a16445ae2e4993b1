"""Training's own forward and backward passes, put into a transformers model while it trains.

low_rank      a frozen layer and the updates of one or several runs
elementwise   norm, gated unit, rotary embedding
attention     within packed examples, without a mask
loss          head and cross-entropy in blocks
places        between tokens end to end and attention's padded batches
tree          scoring's attention: shared beginnings once, branches behind them
scores        scoring's head: log-probabilities in blocks
scoring       scoring's passes, of one model or of several on one base
patch         what of a model can be fused, proven on a probe; put in, taken out
"""

from maple.base.fused.attention import Layout, find_layout
from maple.base.fused.head import label_hidden, plain_head
from maple.base.fused.loss import label_cross_entropy
from maple.base.fused.low_rank import LowRank, Rows, Updates, peft_updates
from maple.base.fused.patch import Fusion, fused
from maple.base.fused.scores import token_scores
from maple.base.fused.scoring import ScoringFusion
from maple.base.fused.tree import TreeLayout, tree_layout

__all__ = [
    "Fusion",
    "Layout",
    "LowRank",
    "Rows",
    "ScoringFusion",
    "TreeLayout",
    "Updates",
    "find_layout",
    "fused",
    "label_cross_entropy",
    "label_hidden",
    "peft_updates",
    "plain_head",
    "token_scores",
    "tree_layout",
]
