"""`python -m attacks`: every story with its accept twin, as a table. Exit 1 when one is missed or a twin raises an alarm."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from attacks.catalogue import STORIES
from attacks.table import render_markdown, render_text, to_json
from attacks.theatre import perform


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m attacks", description=__doc__)
    parser.add_argument("--only", help="ids of stories, separated by commas: R1,R2")
    parser.add_argument("--variant", help="only variants whose name contains this")
    parser.add_argument("--one", action="store_true", help="one variant a story, drawn by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--format", choices=("text", "json", "markdown"), default="text")
    parser.add_argument("--keep", type=Path, help="an empty folder to work in and leave everything in")
    options = parser.parse_args(arguments)

    wanted = None if options.only is None else set(options.only.split(","))
    stories = [story for story in STORIES if wanted is None or story.id in wanted]
    unknown = (wanted or set()) - {story.id for story in STORIES}
    if unknown or not stories:
        parser.error(f"no such story: {', '.join(sorted(unknown))}; there are {', '.join(story.id for story in STORIES)}")
    with tempfile.TemporaryDirectory(prefix="attacks-", ignore_cleanup_errors=True) as temporary:
        folder = options.keep or Path(temporary)
        outcomes = perform(
            stories,
            folder,
            seed=options.seed,
            jobs=options.jobs,
            one=options.one,
            only_variant=options.variant,
            keep=options.keep is not None,
        )
    if options.format == "json":
        print(json.dumps(to_json(outcomes, options.seed), indent=2, ensure_ascii=False))
    else:
        print((render_text if options.format == "text" else render_markdown)(outcomes))
    return 0 if all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
