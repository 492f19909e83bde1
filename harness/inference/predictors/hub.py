"""Checkpoints of the Hugging Face Hub, `hf:REPOSITORY@COMMIT:FILE`, as files of its own cache."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from harness.base.errors import PackageError, UnusableModelError, said_of

_FORM = re.compile(r"hf:([\w.-]+(?:/[\w.-]+)?)@([0-9a-f]{40}):([^:]+\.safetensors)")


@cache
def hub_file(spec: str) -> Path:
    """Return the file that a SPEC names, downloaded unless the cache of `huggingface_hub` has it.

    The commit fixes the content, so a cached file needs no network.

    Raises:
        InputError: The SPEC has another form, the file cannot be fetched, or `huggingface_hub` is
            missing.
    """
    parts = _FORM.fullmatch(spec)
    if parts is None:
        raise UnusableModelError(
            f"{spec}: expected hf:REPOSITORY@COMMIT:FILE.safetensors, "
            "with a full commit of 40 digits; a branch may change, "
            "and no other format of the Hub is read"
        )

    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise PackageError(
            f"{spec}: needs huggingface_hub; pip install 'stress-harness[hub]'"
        ) from None

    repository, commit, name = parts.groups()
    try:
        return Path(hf_hub_download(repository, name, revision=commit))
    except Exception as error:  # Its client raises exceptions of many libraries.
        raise UnusableModelError(f"{spec}: cannot be fetched ({said_of(error)})") from None
