"""Chat templates: messages to the text, and to the tokens, that a model was trained with.

A template comes with a model and is a program by a stranger: `sandbox.py` runs it with bounded time and
memory and without a way out, `template.py` finds and renders it, `prompt.py` makes tokens of what it wrote.
"""

from .prompt import ChatPrompt, chat_prompt
from .template import ChatTemplate

__all__ = ["ChatPrompt", "ChatTemplate", "chat_prompt"]
