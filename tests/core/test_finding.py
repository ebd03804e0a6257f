from __future__ import annotations

from striate.core.finding import Finding, render_text


def test_findings_are_rendered_with_their_fix() -> None:
    findings = [
        Finding("lost-rows", "warning", "conv1", "the last 2 rows are never seen", {"lost": 2}, 'Try "pad 2".'),
        Finding("one-class", "error", "train", "all pictures are of one class"),
    ]
    assert render_text(findings) == (
        "warning: conv1: the last 2 rows are never seen\n"
        '    Try "pad 2".\n'
        "error: train: all pictures are of one class"
    )
