"""Optional engines behind the reference engine's two calls, each admitted by an audit.

openai  an OpenAI-compatible endpoint      vllm  many adapters on one GPU, offline
echo    prompts echoed with log-probabilities, read with care
ahead   several requests under way, answers taken in order
text    requests for a server that takes text
audit   k samples by both engines; refuses the one that disagrees
"""

from maple.engines.audit import Audit, compare, repeat, spread
from maple.engines.openai import OpenAIEngine, Usage
from maple.engines.text import TextEncoder

__all__ = ["Audit", "OpenAIEngine", "TextEncoder", "Usage", "compare", "repeat", "spread"]
