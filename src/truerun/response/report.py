"""The report: an incident as one self-contained HTML page, as Markdown, or as JSON. Everything others wrote is escaped.

The page makes no request and runs no script: its policy allows one style sheet, by hash, and nothing else.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import json
import re
from collections import Counter
from typing import Any

import jinja2
from markupsafe import Markup

from truerun.core.attribution import AttributionVerdict
from truerun.core.codec import to_json
from truerun.core.finding import Finding
from truerun.core.incident import Incident
from truerun.core.version import __version__
from truerun.core.visible import make_visible
from truerun.response.curves import describe_curve, render_curve
from truerun.response.evidence import CONVICTED
from truerun.response.incident import probability_words

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()+!|~])")


def render_html(incident: Incident) -> str:
    """One HTML document."""
    style = _template_text("report.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    curves = [(curve, render_curve(curve, number)) for number, curve in enumerate(incident.curves)]
    return (
        _environment(html=True)
        .get_template("report.html.j2")
        .render(
            **_common(incident),
            style=Markup(style),  # noqa: S704 (our own file, nothing in it comes from outside)
            style_digest=digest,
            curves=[(curve, drawn) for curve, drawn in curves if drawn],
        )
    )


def render_markdown(incident: Incident) -> str:
    """The same story as Markdown, for an issue or a chat."""
    text = _environment(html=False).get_template("report.md.j2").render(**_common(incident), describe_curve=describe_curve)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def render_json(incident: Incident) -> str:
    """The incident as JSON, `"schema": 1`."""
    return json.dumps(to_json(incident), indent=2, ensure_ascii=False) + "\n"


def _common(incident: Incident) -> dict[str, Any]:
    suspects = sorted(incident.attribution.suspects, key=lambda item: -item.probability) if incident.attribution else []
    attributed = incident.attribution is not None and incident.attribution.verdict is AttributionVerdict.ATTRIBUTED
    return {
        "incident": incident,
        "convicted": [suspect for suspect in suspects if attributed and suspect.probability >= CONVICTED],
        "others": [suspect for suspect in suspects if not attributed or suspect.probability < CONVICTED],
        "noticed": _by_rule(incident.findings),
        "version": __version__,
    }


def _by_rule(findings: tuple[Finding, ...]) -> list[tuple[Finding, int]]:
    """The worst finding of each rule and how many there are of it, worst first."""
    worst_first = sorted(findings, key=lambda finding: -finding.severity.rank)
    counts = Counter(finding.rule for finding in findings)
    firsts = {finding.rule: finding for finding in reversed(worst_first)}
    return sorted(((finding, counts[rule]) for rule, finding in firsts.items()), key=lambda pair: -pair[0].severity.rank)


@functools.cache
def _environment(*, html: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template_text),
        autoescape=html,  # noqa: S701 (Markdown has its own escaping in finalize)
        finalize=_shown if html else _shown_markdown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "probability": probability_words,
        "share": lambda value: f"{value:.0%}",
        "number": lambda value: "–" if value is None else f"{value:.4g}",
        "hours": _hours,
        "day": lambda at: at.replace("T", " ").replace("Z", "")[:16],
        "fact": _fact,
        "width": lambda value: f"{100 * min(max(value, 0.0), 1.0):.1f}",
        "raw": Markup,
    }
    return environment


def _template_text(name: str) -> str:
    return (importlib.resources.files("truerun.response") / "templates" / name).read_text(encoding="utf-8")


def _shown(value: Any) -> Any:
    """Hostile characters are made visible before anything is escaped; Markup was made by us."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else make_visible(value).replace(" -> ", " → ")


def _shown_markdown(value: Any) -> Any:
    """One line, nothing in it is Markdown or HTML; Markup marks what is meant to be."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    words = " ".join(make_visible(value).split())
    plain = _MARKDOWN.sub(r"\\\1", words.replace("&", "&amp;").replace("<", "&lt;"))
    return "\\" + plain if plain[:1] in {"-", "#", ">", "="} else plain


def _hours(hours: float) -> str:
    seconds = hours * 3600
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{hours:.1f} h"


def _fact(fact: Any) -> str:
    """One piece of a trace's evidence in words: its own text where it has one, else its fields."""
    for key in ("text", "message", "what"):
        if isinstance(fact.get(key), str):
            return str(fact[key])
    return ", ".join(f"{key.replace('_', ' ')} {_brief(value)}" for key, value in fact.items() if value is not None)


def _brief(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(to_json(value))
    return text if len(text) <= 120 else text[:117] + "…"
