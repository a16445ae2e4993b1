"""Makes ``lm_eval --model maple`` known to lm-evaluation-harness, which has no way to be told.

``maple_lm_eval.pth`` imports this module whenever Python starts, so it imports nothing itself: it
puts one finder before the others, which waits for ``lm_eval.models`` and adds a name to the models
that module has just registered. ``docs/decisions/0011-lm-eval-plugin.md`` says why.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # 4 ms, more than all the rest of this module

NAME = "maple"
TARGET = "maple.run.lm_eval_model:MapleLM"
"""What the harness imports when the model is asked for, and not before."""


class RegisterAfterModels:
    """A finder of no module: it adds a line to what ``lm_eval.models`` does when imported."""

    @staticmethod
    def find_spec(name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        """The spec that the other finders have for ``lm_eval.models``; None for any other name."""
        if name != "lm_eval.models":
            return None
        others = [f for f in sys.meta_path if f is not RegisterAfterModels]
        found = (f.find_spec(name, path, target) for f in others if hasattr(f, "find_spec"))
        spec = next((s for s in found if s is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: "Any") -> None:
                execute(module)
                register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register() -> None:
    """Adds the model to the harness's registry by name; nothing of Maple is imported yet."""
    try:
        from lm_eval.api.registry import model_registry
    except ImportError:
        return  # a harness from before 0.4.10, whose registry takes no names
    if NAME not in model_registry:
        model_registry.register(NAME, target=TARGET)


def install() -> None:
    """Puts the finder in place, once."""
    if RegisterAfterModels not in sys.meta_path:
        sys.meta_path.insert(0, RegisterAfterModels)


install()
