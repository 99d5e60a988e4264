{%- extends 'asciidoc.tpl' -%}

{% block header %}
:icons: font
{% endblock header %}

{% block input %}
{% endblock input %}

{% block execute_result %}
{{ super() }}
{% endblock execute_result %}

{% block stream %}
----{{ super() }}----
{% endblock stream %}

{% block data_png %}
image::{{ output.metadata.filenames['image/png'] }}[png]
{% endblock data_png %}

{% block data_svg %}
image::{{ output.metadata.filenames['image/svg+xml'] }}[svg]
{% endblock data_svg %}

{% block data_jpg %}
image::{{ output.metadata.filenames['image/jpeg'] }}[jpeg]
{% endblock data_jpg %}

{% block data_text %}
{{ output.data['text/plain'] | indent }}
{% endblock data_text %}
