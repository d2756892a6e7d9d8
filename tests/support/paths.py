"""Names of files and folders that a file system accepts but programs often fail on."""

from __future__ import annotations

import os

GOOD = [
    *("a b", " lead", "trail ", "a#b", "a?b", "a*b", "a{b,c}d", "a$b", "a${HOME}b", "a'b", 'a"b', "a`b"),
    *("é", "e\u0301", "\u4ef7\u683c", "\U0001f980", "-a", "--help", "~", "~a", "@v1", "a@v3", "a:b", "a;b"),
    *("a&b", "a+b", "a=b", "a,b", "a!b", "(a)", "a<b>", "%", "%zz", "%2", "...", "symbol=x", "file:", "NUL"),
    *("\u202e", "\u2028", "\u0085", "\u00a0", "x" * 255, "ü" * 127, "$(touch x)", "a--b", "*", "a.lock"),
]
"""Tables can be in folders of these names."""
REFUSED = [
    *("a[b]", "a]b", "a|b", "a^b", "a%20b", "a%2Fb", "a%2fb", "a\\b", "a\tb", "a\nb", "a\rb", "\x01", "\x7f"),
    *("\x1b[31m", "_delta_log", os.fsdecode(b"\xff"), os.fsdecode(b"caf\xe9")),
]
"""The Delta client cannot open tables in these: deltabook refuses them by name."""
NAMED = [
    *("one of [ ] | ^ \\",) * 4,
    *("a % with two hexadecimal digits after it",) * 3,
    "one of [ ] | ^ \\",
    *("a control character",) * 6,
    "a folder named _delta_log",
    *("bytes that are not UTF-8",) * 2,
]
"""What the refusal of each names."""
