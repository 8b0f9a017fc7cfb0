"""The one-line drop-in: ``from ai_ledger.openai import OpenAI``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import openai as _sdk

from ai_ledger.capture.client import tracked_class

__all__ = ["AsyncAzureOpenAI", "AsyncOpenAI", "AzureOpenAI", "OpenAI"]

if TYPE_CHECKING:

    class _Tracked:
        def with_context(self, **context: Any) -> Self: ...

    class OpenAI(_Tracked, _sdk.OpenAI):
        """``openai.OpenAI`` with every call on the books; also takes ``ledger=``."""

    class AsyncOpenAI(_Tracked, _sdk.AsyncOpenAI):
        """``openai.AsyncOpenAI`` with every call on the books; also takes ``ledger=``."""

    class AzureOpenAI(_Tracked, _sdk.AzureOpenAI):
        """``openai.AzureOpenAI`` with every call on the books; also takes ``ledger=``."""

    class AsyncAzureOpenAI(_Tracked, _sdk.AsyncAzureOpenAI):
        """``openai.AsyncAzureOpenAI`` with every call on the books; also takes ``ledger=``."""

else:
    OpenAI = tracked_class(_sdk.OpenAI)
    AsyncOpenAI = tracked_class(_sdk.AsyncOpenAI)
    AzureOpenAI = tracked_class(_sdk.AzureOpenAI)
    AsyncAzureOpenAI = tracked_class(_sdk.AsyncAzureOpenAI)
