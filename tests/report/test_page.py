"""The page of a comparison, as a browser sees it, and its tables in LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlseq.report.page import comparison_csv, comparison_latex, comparison_page
from rlseq.report.page.drawings import attention_drawing, drawn, marked_text
from rlseq.report.page.markup import Markup, tag
from rlseq.report.page.svg import Axis
from rlseq_envs.drawing import Picture, Polygon, drawing_to_json
from tests.report.example import METRICS, comparison

SECTIONS = [
    "verdict", "arms", "differences", "what-changed", "where", "training", "beams-and-samples", "cost", "checkpoints",
    "changed-most", "worst-regressions", "settings-and-signatures",
]  # fmt: skip
HOSTILE = """"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;'"""


# ------------------------------------------------------------------------------------------------------------- browser
@dataclass(frozen=True)
class Shown:
    """A page in the browser: its document as it stands after loading, and what the console said."""

    document: str
    console: list[str]

    def elements(self) -> list[tuple[str, dict[str, str | None]]]:
        parser = _Elements()
        parser.feed(self.document)
        return parser.found


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def open_page(html: str, directory: Path) -> Shown:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("no chromium on the PATH: run apt-get install chromium (as .ci/run does), then this test again")
    place = directory / "page.html"
    place.write_text(html, encoding="utf-8")
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        *quiet,
        "--enable-logging=stderr",
        "--v=0",
    ]
    command = [chromium, *flags, f"--user-data-dir={directory / 'profile'}", "--dump-dom", place.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return Shown(done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    return open_page(comparison_page(comparison()), tmp_path_factory.mktemp("page"))


def test_a_browser_shows_every_section_and_has_nothing_to_complain_about(page: Shown) -> None:
    assert [attributes["id"] for name, attributes in page.elements() if name == "section"] == SECTIONS
    assert page.console == []


def test_the_console_is_heard_and_the_page_can_load_nothing(tmp_path: Path) -> None:
    broken = comparison_page(comparison()).replace("<main>", '<main><img src="https://example.com/a.png">')
    shown = open_page(broken, tmp_path)
    assert any("Content Security Policy" in line for line in shown.console)


def test_the_page_names_nothing_beside_itself(page: Shown) -> None:
    names = {name for name, _ in page.elements()}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "use", "image"}
    links = [value for _, attributes in page.elements() for key, value in attributes.items() if key in ("href", "src")]
    assert links and all(link is not None and link.startswith("#") for link in links)
    assert not re.search(r"url\(|@import|https?:", page.document)
    assert {link[1:] for link in links if link} == set(SECTIONS) - {"verdict"}


def test_every_drawing_has_a_text(page: Shown) -> None:
    drawings = [
        attributes for name, attributes in page.elements() if name == "svg" and "stretched" not in str(attributes)
    ]
    assert len(drawings) > 10
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in drawings)


def test_a_browser_shows_pictures_that_are_in_the_page(tmp_path: Path) -> None:
    drawing = drawing_to_json(Picture(np.zeros((2, 3), np.uint8)))
    (text,) = [item for item in comparison()["examples"] if item["id"] == 18]
    shown = open_page(comparison_page(comparison(examples=[text | {"drawing": drawing}])), tmp_path)
    assert shown.console == []
    (image,) = [attributes for name, attributes in shown.elements() if name == "image"]
    assert str(image["href"]).startswith("data:image/png;base64,")


def test_what_it_is_given_is_text_and_never_markup(tmp_path: Path) -> None:
    shown = open_page(comparison_page(renamed(comparison(), HOSTILE)), tmp_path)
    assert shown.console == []
    assert not {"script", "img"} & {name for name, _ in shown.elements()}
    assert not any(key.startswith("on") for _, attributes in shown.elements() for key in attributes)
    assert "&lt;script&gt;alert(1)" in shown.document
    for name in ("equal_time", "instance"):
        assert comparison_page(renamed(comparison(), name)).count("<article>") == 4


def renamed(value: Any, name: str) -> Any:
    """The value with every text and every arm's name followed by ``name``; the names of keys and types stay."""
    kept = {"mle", "reward", "control", "polygon", *METRICS}
    if isinstance(value, dict):
        arms = {"rl", "mle", "equal_time", "constant_reward", "shuffled_reward"}
        return {(key + name if key in arms else key): renamed(each, name) for key, each in value.items()}
    if isinstance(value, list):
        return [renamed(each, name) for each in value]
    return value + name if isinstance(value, str) and value not in kept - {"mle"} else value


# ------------------------------------------------------------------------------------------------------------ verdicts
@pytest.mark.parametrize(
    ("delta", "p_value", "kind", "words"),
    [
        (6.2, 0.0004, "good", "brought this much accuracy beyond the best of its controls, equal_time"),
        (0.1, 0.62, "none", "nothing beyond its controls that can be told from chance"),
        (-4.5, 0.0004, "bad", "rl is worse than the best of its controls, equal_time"),
    ],
)
def test_the_verdict_says_what_the_figures_say(delta: float, p_value: float, kind: str, words: str) -> None:
    gain = {"metric": "accuracy", "arm": "rl", "best_control": "equal_time", "delta": delta, "p_value": p_value}
    html = comparison_page(comparison(attributable=[gain | {"ci95": [delta - 1, delta + 1]}]))
    assert f'class="verdict {kind}"' in html and words in html
    assert f"{delta:+.2f}".replace("-", "−") in html


def test_less_of_an_error_rate_is_a_gain() -> None:
    gain = {"metric": "accuracy", "arm": "rl", "best_control": "equal_time", "delta": -2.0, "p_value": 0.001}
    changes = {"attributable": [gain | {"ci95": [-3.0, -1.0]}], "less_is_better": ["accuracy"]}
    assert 'class="verdict good"' in comparison_page(comparison(**changes))


def test_without_controls_nothing_is_attributed_to_the_reward() -> None:
    html = comparison_page(comparison(attributable=[]))
    assert 'class="verdict none"' in html and "No control was given" in html


# ---------------------------------------------------------------------------------------------------------- what if not
OPTIONAL = ("buckets", "curves", "training_curves", "examples", "regressions")


def bare() -> dict[str, Any]:
    """Outputs of two systems of which nothing else is known, compared without controls by metrics that failed."""
    result = comparison(attributable=[], trained_on={}, held_out=[])
    nothing: dict[str, Any] = {key: {} for key in ("ci95", "iqm", "profile", "cost", "signatures")}
    nothing |= {"seeds": [0], "checkpoints": ["outputs.txt"], "selection": [None], "seconds": None}
    arms = [arm | nothing | {"metrics": arm["metrics"] | {"area": None}} for arm in result["arms"][:2]]
    result["arms"] = [arm | {"per_seed": {name: [v] for name, v in arm["metrics"].items()}} for arm in arms]
    unknown = dict.fromkeys(("p_holm", "p_randomization", "ci95_percentile", "probability_of_improvement", "per_seed"))
    counts = dict.fromkeys(("wins", "ties", "losses"))
    result["differences"] = [result["differences"][0] | unknown | counts]
    return {key: value for key, value in result.items() if key not in OPTIONAL}


@pytest.mark.parametrize("make", [comparison_page, comparison_latex, comparison_csv])
def test_what_is_not_known_is_left_out(make: Callable[[dict[str, Any]], str]) -> None:
    for result in (bare(), *({k: v for k, v in comparison().items() if k != name} for name in OPTIONAL)):
        text = make(result)
        assert "None" not in text and "nan" not in text


def test_a_metric_that_failed_has_a_dash_and_no_point() -> None:
    html = comparison_page(bare())
    assert "<td>–</td>" in html
    assert "area of each arm: mle –; rl –" in html


# ------------------------------------------------------------------------------------------------------------ drawings
def test_a_text_shows_its_difference_to_the_reference() -> None:
    cases = {
        ("a b c", "a b c"): "a b c",
        ("a x c", "a b c"): "a <del>b</del> <ins>x</ins> c",
        ("a c c", "a b c"): "a <del>b</del> c <ins>c</ins>",
        ("", "a"): "<del>a</del>",
        ("<b>", ""): "&lt;b&gt;",
        ("日土日", "日本日"): "日<del>本</del><ins>土</ins>日",
    }
    assert {pair: str(marked_text(*pair)) for pair in cases} == cases


def test_a_hull_is_drawn_upright_on_one_scale() -> None:
    shown = drawn(Polygon(np.array([[0, 0], [2, 0], [2, 1]]), (0, 1), (0, 1, 2)), "what it is")
    corners = dict(re.findall(r'<(polygon) points="([^"]*)" class="reference"', shown))
    (ax, ay), (bx, by), (cx, cy) = (map(float, place.split(",")) for place in corners["polygon"].split())
    assert ay == by and bx == cx and bx - ax == 2 * (by - cy) > 0


def test_attention_darkens_with_its_weight_and_is_read_out() -> None:
    shown = attention_drawing([[0.25, 0.75], [1.0, 0.0]], ["in", "put"], ["a", "b"])
    assert re.findall(r'fill-opacity="([\d.]+)"', shown) == ["0.25", "0.75", "1.00"]
    assert "a reads put; b reads in" in shown


@pytest.mark.parametrize("values", [[0.0, 1.0], [5.0], [0.0], [-1e-6, 2e-6], [1e6, 3e6], [99.65, 99.79], []])
def test_an_axis_holds_its_values_and_labels_a_few_round_ones(values: list[float]) -> None:
    axis = Axis.of(values, 3.0, 97.0)
    assert all(3.0 <= axis.place(value) <= 97.0 for value in values)
    labels = [axis.label(tick) for tick in axis.ticks]
    assert 2 <= len(labels) == len(set(labels)) <= 9
    assert all(
        float(label.replace(",", "").replace("−", "-")) == pytest.approx(t)
        for label, t in zip(labels, axis.ticks, strict=True)
    )


def test_elements_escape_what_is_not_an_element() -> None:
    assert (
        tag("p", "<&>", Markup("<br>"), None, class_='"', aria_label=None) == '<p class="&quot;">&lt;&amp;&gt;<br></p>'
    )


# --------------------------------------------------------------------------------------------------------------- LaTeX
def test_latex_has_tables_whose_rows_have_as_many_cells_as_columns() -> None:
    latex = comparison_latex(comparison())
    tables = re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", latex, flags=re.DOTALL)
    assert len(tables) == 3
    for columns, body in tables:
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(rows) > 1 and all(len(re.split(r"(?<!\\)&", row)) == len(columns) for row in rows)
        assert [rule in body for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [True] * 3
    for name in ("table", "tabular"):
        assert latex.count(f"\\begin{{{name}}}") == latex.count(f"\\end{{{name}}}")
    assert r"equal\_time" in latex and r"$-$" in latex


def test_latex_escapes_every_character_that_means_something() -> None:
    latex = comparison_latex(renamed(comparison(), r"\ { } $ & # % _ ^ ~"))
    assert r"rl\textbackslash{} \{ \} \$ \& \# \% \_ \textasciicircum{} \textasciitilde{}" in latex


# ----------------------------------------------------------------------------------------------------------------- CSV
def test_csv_has_every_figure_once() -> None:
    result = comparison()
    rows = list(csv.DictReader(io.StringIO(comparison_csv(result))))
    assert list(rows[0]) == ["table", "arm", "seed", "metric", "value", "low", "high", "p"]
    keys = [(row["table"], row["arm"], row["seed"], row["metric"]) for row in rows]
    assert len(set(keys)) == len(keys)
    found = dict(zip(keys, rows, strict=True))
    for arm in result["arms"]:
        for metric in METRICS:
            row = found["arms", arm["name"], "", metric]
            assert float(row["value"]) == arm["metrics"][metric]
            assert [float(row["low"]), float(row["high"])] == arm["ci95"][metric]
            assert float(found["seeds", arm["name"], "2", metric]["value"]) == arm["per_seed"][metric][2]
    for item in result["differences"]:
        row = found["differences", f"{item['b']} - {item['a']}", "", item["metric"]]
        assert [float(row[name]) for name in ("value", "low", "high", "p")] == [
            item["delta"],
            *item["ci95"],
            item["p_value"],
        ]
    assert float(found["beam, 8", "rl", "", "reward"]["value"]) == result["curves"]["beam"][3]["values"]["rl"]["mean"]
    assert float(found["attributable", "rl - equal_time", "", "accuracy"]["p"]) == 0.0004


def test_the_result_is_left_as_it_was() -> None:
    result = comparison()
    before = json.dumps(result)
    for make in (comparison_page, comparison_latex, comparison_csv):
        assert make(result) == make(result)
    assert json.dumps(result) == before
