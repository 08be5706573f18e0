"""Holds templates of the parts of the page, from top to bottom."""

from markupsafe import Markup

from cdc_flower.report.drawing.page_style import template

HEADER = template(
    """<header><h1>{{ title }}</h1><p class='facts'>{{ facts }}</p>"""
    """{% for note in notes %}<p class='note'>{{ note }}</p>{% endfor %}</header>"""
)
EMPTY = Markup("<p class='reading'>The results hold no rows: no segment was finished.</p>")
PANEL = template(
    """<section>{% if title %}<h2>{{ title }}</h2>{% endif %}<p class='reading'>{{ reading }}</p>"""
    """{{ summary }}"""
    """{% for note in notes %}<p class='note'><sup>{{ loop.index }}</sup> {{ note }}</p>"""
    """{% endfor %}"""
    """<p class='note'>{{ size }}. ± is half a 95 % interval {{ intervals }}. Bold: a gain after """
    """correction for the number of strategies.</p>"""
    """{{ controls }}{{ quarantined }}"""
    """<details><summary>Every metric</summary>{{ metrics }}</details>"""
    """<details><summary>Payload, labels and seconds</summary>{{ costs }}</details></section>"""
)
HOW_TO_READ = Markup(
    "<section><h2>How to read this</h2><p>Every event is predicted before anything learns from it. "
    "A value is a sum over events divided by their number, over all devices, segments and seeds; "
    "its 95 % interval treats each device as one cluster, because the events of a device are "
    "alike. A difference compares the same devices, so it is often more certain than the two "
    "values are; its interval comes from 1,000 draws of as many devices. Of several seeds, "
    "intervals are over trainings × devices: where trainings differ most, Student's t over seeds. "
    "With one seed they hold given these models: another training may gain more or less. Gains are "
    "bold, and put into words, where they are above zero after Holm's correction for the number of "
    "strategies, or were named beforehand. <i>auc</i> compares each true candidate with those of "
    "all devices in its segment, so offsets between devices count, <i>user_auc</i> with those of "
    "its own device. Clicks are told where a report or an upload holds them, and trained on where "
    "gradient steps use them as labels. Latency runs from a shift to new parameters in use; "
    "staleness is the age, at the start of a segment, of the parameters in use during it. Both are "
    "in virtual seconds, while seconds of computing are measured.</p></section>"
)
PROVENANCE = template(
    """<section><h2>Remake it</h2>"""
    """{% for run in runs %}<h3>{{ run.name }}</h3>"""
    """{% if run.command %}<pre>{{ run.command }}</pre>"""
    """{% else %}<p>The config names no command.</p>{% endif %}"""
    """{% if run.where %}<p class='note'>{{ run.where }}</p>"""
    """<details><summary>Machine, libraries, code and data</summary><table>"""
    """{% for place, fact in run.facts %}"""
    """<tr><td>{{ place }}</td><td>{{ fact }}</td></tr>{% endfor %}"""
    """</table></details>{% endif %}"""
    """{% if run.config %}"""
    """<details><summary>Config</summary><pre>{{ run.config }}</pre></details>{% endif %}"""
    """{% if run.log.strip() %}"""
    """<details><summary>End of the log</summary><pre>{{ run.log }}</pre></details>{% endif %}"""
    """{% endfor %}<details><summary>Versions that wrote this page</summary><table>"""
    """{% for name, number in versions %}"""
    """<tr><td>{{ name }}</td><td>{{ number }}</td></tr>{% endfor %}"""
    """</table></details></section>"""
)
PAPERS = template(
    """<section><h2>Papers of these strategies</h2><ul>"""
    """{% for paper in papers %}<li><b>{{ paper.name }}</b>. {{ paper.text }} """
    """<a href='https://arxiv.org/abs/{{ paper.arxiv }}'>arXiv:{{ paper.arxiv }}</a></li>"""
    """{% endfor %}</ul>"""
    """<details><summary>BibTeX</summary><pre>{{ bibtex }}</pre></details></section>"""
)
