"""Text that others wrote, made fit to be shown: nothing in it can act on a terminal or read differently from what it is."""

from __future__ import annotations

import re

# C0 and C1 controls, and the bidirectional marks and overrides of Unicode (Trojan Source, CVE-2021-42574).
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def make_visible(text: str) -> str:
    r"""*text* with control, invisible and bidirectional characters written as `\u202e`; tabs and line ends stay."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
