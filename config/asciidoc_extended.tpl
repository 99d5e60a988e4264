{#- AutoFlow's template for reports. A custom template that extends 'asciidoc.tpl' extends this one.

All values are escaped, except the results of the filters that produce asciidoc: markdown2asciidoc, html2asciidoc,
latex2asciidoc, text2asciidoc, figure, failure. `replaces` is whether a custom template has a block of its own. What
AutoFlow hides, such as code, is there as soon as a custom template asks for it with super(). -#}
{%- extends 'nbconvert/templates/asciidoc/index.asciidoc.j2' -%}

{%- block header -%}
= {{ resources.report.title }}

{% if resources.report.subtitle -%}
[.report-date]
{{ resources.report.subtitle }}

{% endif %}
{%- if resources.report.warnings -%}
[WARNING]
====
{% for warning in resources.report.warnings -%}
{{ warning }}

{% endfor -%}
====

{% endif %}
{%- endblock header -%}

{%- block input %}{% if replaces('input', 'input_group') %}{{ super() }}{% endif %}{% endblock input -%}

{#- Print outputs one by one, rather than in one listing as nbconvert's template does. -#}
{%- block output_group %}{{ report_group[0] }}{{ super.super() }}{{ report_group[1] }}{% endblock output_group -%}
{%- block output scoped %}{{ report_output }}{{ super() }}{% endblock output -%}

{%- block stream scoped %}{{ super.super() }}{% endblock stream -%}
{%- block stream_stdout scoped %}{{ output.text | text2asciidoc }}{% endblock stream_stdout -%}
{%- block stream_stderr scoped -%}
{% if replaces('stream', 'stream_stderr') %}{{ output.text | text2asciidoc }}{% endif %}
{%- endblock stream_stderr -%}
{%- block error scoped -%}
{% if replaces('traceback_line') %}{{ super() }}{% else %}{{ output | failure }}{% endif %}
{%- endblock error -%}

{%- block data_svg scoped %}{{ output.data['image/svg+xml'] | figure(output.metadata) }}{% endblock data_svg -%}
{%- block data_png scoped %}{{ output.data['image/png'] | figure(output.metadata) }}{% endblock data_png -%}
{%- block data_jpg scoped %}{{ output.data['image/jpeg'] | figure(output.metadata) }}{% endblock data_jpg -%}
{%- block data_html scoped %}{{ output.data['text/html'] | html2asciidoc }}{% endblock data_html -%}
{%- block data_markdown scoped %}{{ output.data['text/markdown'] | markdown2asciidoc }}{% endblock data_markdown -%}
{%- block data_latex scoped %}{{ output.data['text/latex'] | latex2asciidoc }}{% endblock data_latex -%}
{%- block data_text scoped %}{{ output.data['text/plain'] | text2asciidoc }}{% endblock data_text -%}

{%- block markdowncell scoped %}{{ cell.source | markdown2asciidoc }}{% endblock markdowncell -%}
{%- block rawcell scoped %}{% if replaces('rawcell') %}{{ super() }}{% endif %}{% endblock rawcell -%}
{%- block unknowncell scoped %}{% if replaces('unknowncell') %}{{ super() }}{% endif %}{% endblock unknowncell -%}
