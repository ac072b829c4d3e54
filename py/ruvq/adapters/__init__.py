"""LoRA adapters as files: PEFT's folders and llama.cpp's GGUF layout, from one to the other, and merged.

    lora = read_adapter("adapter_folder")
    write_adapter("adapter.gguf", to_gguf(lora, parameters))

Needs NumPy; neither torch nor PEFT. Running a model with one is `ruvq.Model.load_adapter`.
"""

from .files import convert_adapter, merge_adapters, read_adapter, write_adapter
from .lora import Lora, Pair
from .merging import METHODS, merge

__all__ = [
    "METHODS", "Lora", "Pair", "convert_adapter", "merge", "merge_adapters", "read_adapter", "write_adapter",
]  # fmt: skip
