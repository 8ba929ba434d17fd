"""The report: everything in it, nothing that acts, nothing that is loaded."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from truerun.core.attribution import AttributionVerdict
from truerun.core.codec import from_json
from truerun.core.incident import Incident
from truerun.response.incident import build_incident
from truerun.response.report import render_html, render_json, render_markdown

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}\x1b[31m\u202egpj.exe\u2066"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
REQUIRED = os.environ.get("TRUERUN_REQUIRE_BROWSER") == "1" or os.environ.get("CI") == "true"


@pytest.fixture
def incident(story):
    return build_incident(story.evidence())


def test_a_page_tells_the_whole_story(incident):
    """Changes, people, entries, gap, cost and the way back are all there."""
    page = render_html(incident)
    for words in (
        "optimizer.lr 0.003 → 0.3",
        "99.9%",
        "train +520 rows by dee",
        "Dee Made-Up",
        "mentor: bo",
        "Checkpoints not to build",
    ):
        assert words in page
    for title in ("What changed", "What it did", "Who is worse off", "Why it could happen", "Who can say more", "Timeline"):
        assert f"<h2>{title}</h2>" in page
    assert "critical = true" in page
    assert "truerun ledger verify" in page


def test_the_worst_finding_of_each_rule_is_told_with_their_number(story, error):
    """Ten findings of one rule are one line."""
    for key in "abcdefghij":
        story.find("config-drift", error, key)
    page = render_html(build_incident(story.evidence()))
    assert page.count("config-drift saw something") == 1
    assert '<td class="right">10</td>' in page


def test_a_page_loads_and_runs_nothing(incident):
    """No script, no style attribute, no address: the policy could not be broken if it wanted to."""
    page = render_html(incident)
    assert not re.search(
        r"<script|<iframe|<img|<link|<object|\bsrc=|\bhref=|\bstyle=|javascript:|@import|url\(|\bon\w+=", page, re.IGNORECASE
    )
    assert not re.search(r"https?://", page)
    assert "default-src 'none'; style-src 'sha256-" in page


def test_hostile_text_is_shown_and_does_nothing(story):
    """A note, a key, a name and a class try HTML, templates, terminal colours and text that reads backwards."""
    story.note = HOSTILE
    story.slip = replace(story.slip, key=HOSTILE, before=HOSTILE, name=HOSTILE)
    incident = build_incident(story.evidence())
    incident = replace(
        incident,
        project=HOSTILE,
        run=HOSTILE,
        unknowns=(HOSTILE,),
        outcomes=tuple(replace(outcome, name=HOSTILE) for outcome in incident.outcomes),
        curves=tuple(replace(curve, name=HOSTILE) for curve in incident.curves),
        voices=tuple(replace(voice, name=HOSTILE) for voice in incident.voices),
    )
    page = render_html(incident)
    assert "<script" not in page
    assert "{{7*7}}" in page
    assert "&lt;script&gt;" in page
    for text in (page, render_markdown(incident)):
        assert not set(text) & set("\x1b\u202e\u2066")
    assert "<script" not in render_markdown(incident)
    assert "\n| " in render_markdown(incident)


def test_markdown_stays_a_table_when_names_hold_pipes_and_lines(story):
    """A note with a line break and a pipe must not make new rows."""
    story.note = "a | b\n| 1 | 2 |"
    text = render_markdown(build_incident(story.evidence()))
    rows = [line for line in text.splitlines() if line.startswith("| 14 ")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 5


def test_json_reads_back(incident):
    """The JSON form is the incident, no more and no less."""
    assert from_json(Incident, json.loads(render_json(incident))) == incident
    assert json.loads(render_json(incident))["schema"] == 1


@pytest.mark.parametrize("verdict", [AttributionVerdict.CANNOT_TELL, AttributionVerdict.NO_DEGRADATION])
def test_a_page_without_an_answer_says_so(story, verdict):
    """No change is called the cause when the trace named none."""
    story.verdict, story.recover = verdict, False
    page = render_html(build_incident(story.evidence()))
    assert "singled out no change" in page
    assert "not rolled back yet" in page


@pytest.mark.skipif(CHROMIUM is None and not REQUIRED, reason="no Chromium here; CI has one")
def test_a_browser_shows_it_without_complaint(incident, tmp_path):
    """A real browser finds nothing to complain about and asks the network for nothing; the accept twin is a page that does."""
    assert CHROMIUM is not None, "CI installs chromium"
    page = tmp_path / "report.html"
    page.write_text(render_html(incident), encoding="utf-8")
    log, requests = _browse(page, tmp_path)
    assert requests == []
    assert not re.search(r"CONSOLE|Refused|violates", log)
    noisy = tmp_path / "noisy.html"
    noisy.write_text("<script>console.error('seen')</script><img src='http://127.0.0.1:9/x.png'>", encoding="utf-8")
    log, requests = _browse(noisy, tmp_path)
    assert "seen" in log
    assert requests == ["http://127.0.0.1:9/x.png"]


def _browse(page, folder):
    """Open *page*; the browser's log, and every address it asked for besides files."""
    net = folder / f"{page.stem}.netlog"
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            f"--log-net-log={net}",
            f"--screenshot={folder / 'shot.png'}",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    seen = re.findall(r'"url":"(https?://[^"]+)"', net.read_text(errors="replace"))
    # The browser's own housekeeping talks to its maker; a page's requests are whatever else there is.
    own = re.compile(r"https?://([a-z0-9-]+\.)*(google|googleapis|gvt1|gstatic|chromium|googleusercontent)\.(com|org)/")
    return done.stderr, sorted({address for address in seen if not own.match(address)})
