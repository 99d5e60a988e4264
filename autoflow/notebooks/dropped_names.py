"""Names that newer versions of libraries dropped, and what replaces them.

The table has what notebooks of the time of FlowKit's AutoFlow, about 2019, commonly use. Its tests run each old name.
"""

import platform
import re
from collections.abc import Iterator, Mapping
from importlib import metadata

LEAVE_IT_OUT = ""
"""The replacement of what is no longer needed."""

SEABORN_STYLES = ("", "-darkgrid", "-notebook", "-paper", "-talk", "-ticks", "-white", "-whitegrid")
"""The ends of the names of matplotlib's styles that imitate seaborn."""

DROPPED: Mapping[str, Mapping[str, str]] = {
    "pandas": {
        "Styler.hide_index": 'Styler.hide(axis="index")',
        "Styler.hide_columns": 'Styler.hide(columns, axis="columns")',
        "Styler.set_precision": "Styler.format(precision=2)",
        "Styler.set_na_rep": 'Styler.format(na_rep="-")',
        "Styler.applymap": "Styler.map",
        "Styler.applymap_index": "Styler.map_index",
        "Styler.render": "Styler.to_html",
        "Styler.where": "Styler.map",
        "highlight_null(null_color=)": "color=",
        "DataFrame.append": "pd.concat([df, other])",
        "DataFrame.applymap": "DataFrame.map",
        "DataFrame.as_matrix": "DataFrame.to_numpy",
        "DataFrame.backfill": "DataFrame.bfill",
        "DataFrame.clip_lower": "DataFrame.clip(lower=)",
        "DataFrame.clip_upper": "DataFrame.clip(upper=)",
        "DataFrame.convert_objects": "DataFrame.infer_objects, or pd.to_numeric and pd.to_datetime",
        "DataFrame.from_csv": "pd.read_csv",
        "DataFrame.from_items": "pd.DataFrame(dict(items))",
        "DataFrame.get_dtype_counts": "DataFrame.dtypes.value_counts()",
        "DataFrame.get_value": "DataFrame.at[row, column]",
        "DataFrame.iteritems": "DataFrame.items",
        "DataFrame.ix": "DataFrame.loc for labels, or DataFrame.iloc for positions",
        "DataFrame.lookup": "DataFrame.melt and DataFrame.loc, or DataFrame.to_numpy() with positions",
        "DataFrame.mad": "(df - df.mean()).abs().mean()",
        "DataFrame.pad": "DataFrame.ffill",
        "DataFrame.reindex_axis": "DataFrame.reindex(labels, axis=axis)",
        "DataFrame.set_value": "DataFrame.at[row, column] = value",
        "DataFrame.slice_shift": "DataFrame.shift",
        "DataFrame.sort": "DataFrame.sort_values",
        "DataFrame.swapaxes": "DataFrame.transpose",
        "DataFrame.to_panel": "a DataFrame with a MultiIndex",
        "DataFrame.to_msgpack": "DataFrame.to_parquet or DataFrame.to_pickle",
        "DataFrame.to_sparse": 'DataFrame.astype("Sparse")',
        "DataFrame.tshift": "DataFrame.shift(freq=)",
        "Series.append": "pd.concat([series, other])",
        "Series.as_matrix": "Series.to_numpy",
        "Series.backfill": "Series.bfill",
        "Series.clip_lower": "Series.clip(lower=)",
        "Series.clip_upper": "Series.clip(upper=)",
        "Series.compress": "Series[condition]",
        "Series.from_csv": "pd.read_csv",
        "Series.get_value": "Series.at[label]",
        "Series.get_values": "Series.to_numpy",
        "Series.is_monotonic": "Series.is_monotonic_increasing",
        "Series.iteritems": "Series.items",
        "Series.ix": "Series.loc for labels, or Series.iloc for positions",
        "Series.mad": "(series - series.mean()).abs().mean()",
        "Series.nonzero": "Series.to_numpy().nonzero()",
        "Series.order": "Series.sort_values",
        "Series.pad": "Series.ffill",
        "Series.ptp": "series.max() - series.min()",
        "Series.ravel": "Series.to_numpy",
        "Series.reshape": "Series.to_numpy().reshape",
        "Series.set_value": "Series.at[label] = value",
        "Series.sort": "Series.sort_values",
        "Series.tshift": "Series.shift(freq=)",
        "Series.valid": "Series.dropna",
        "Series.view": "Series.astype",
        "Index.contains": "label in index",
        "Index.get_duplicates": "index[index.duplicated()].unique()",
        "Index.is_all_dates": "isinstance(index, pd.DatetimeIndex)",
        "Index.is_monotonic": "Index.is_monotonic_increasing",
        "Index.is_numeric": "pd.api.types.is_numeric_dtype(index)",
        "Index.labels": "MultiIndex.codes",
        "Index.set_labels": "MultiIndex.set_codes",
        "Index.to_datetime": "pd.to_datetime(index)",
        "Index.week": "DatetimeIndex.isocalendar().week",
        "Index.weekday_name": "DatetimeIndex.day_name()",
        "Index.weekofyear": "DatetimeIndex.isocalendar().week",
        "DatetimeProperties.week": "Series.dt.isocalendar().week",
        "DatetimeProperties.weekday_name": "Series.dt.day_name()",
        "DatetimeProperties.weekofyear": "Series.dt.isocalendar().week",
        "Timestamp.weekday_name": "Timestamp.day_name()",
        "Timestamp.to_datetime": "Timestamp.to_pydatetime()",
        "pandas.Float64Index": 'pd.Index(values, dtype="float64")',
        "pandas.Int64Index": 'pd.Index(values, dtype="int64")',
        "pandas.UInt64Index": 'pd.Index(values, dtype="uint64")',
        "pandas.Panel": "a DataFrame with a MultiIndex",
        "pandas.SparseDataFrame": 'DataFrame.astype("Sparse")',
        "pandas.TimeGrouper": "pd.Grouper(freq=)",
        "pandas.datetime": "datetime.datetime",
        "pandas.ewma": "Series.ewm(span=).mean()",
        "pandas.get_store": "pd.HDFStore",
        "pandas.np": "import numpy as np",
        "pandas.read_gbq": "pandas_gbq.read_gbq",
        "pandas.read_msgpack": "pd.read_parquet or pd.read_pickle",
        "pandas.rolling_mean": "Series.rolling(window).mean()",
        "pandas.rolling_std": "Series.rolling(window).std()",
        "pandas.rolling_sum": "Series.rolling(window).sum()",
        "pandas.scatter_matrix": "pd.plotting.scatter_matrix",
        "pandas.value_counts": "Series.value_counts",
        "pandas.io.json.json_normalize": "pd.json_normalize",
        "pandas.core.common.SettingWithCopyWarning": LEAVE_IT_OUT,
        "pandas.tools": "pd.plotting",
        "pandas.util.testing": "pd.testing",
        "concat(join_axes=)": "pd.concat(…).reindex(…)",
        "date_range(closed=)": "inclusive=",
        "describe(datetime_is_numeric=)": LEAVE_IT_OUT,
        "drop_duplicates(take_last=)": 'keep="last"',
        "fillna(method=)": "DataFrame.ffill() or DataFrame.bfill()",
        "groupby(axis=)": "df.T.groupby(…)",
        "groupby(squeeze=)": LEAVE_IT_OUT,
        "read_csv(date_parser=)": "date_format=",
        "read_csv(delim_whitespace=)": r'sep=r"\s+"',
        "read_csv(error_bad_lines=)": 'on_bad_lines="skip"',
        "read_csv(infer_datetime_format=)": LEAVE_IT_OUT,
        "read_csv(mangle_dupe_cols=)": LEAVE_IT_OUT,
        "read_csv(prefix=)": "DataFrame.add_prefix",
        "read_csv(squeeze=)": 'pd.read_csv(…).squeeze("columns")',
        "read_csv(tupleize_cols=)": LEAVE_IT_OUT,
        "read_csv(warn_bad_lines=)": 'on_bad_lines="warn"',
        "read_excel(parse_cols=)": "usecols=",
        "read_excel(sheetname=)": "sheet_name=",
        "resample(base=)": "offset=",
        "resample(how=)": "df.resample(…).mean(), for example",
        "resample(kind=)": LEAVE_IT_OUT,
        "resample(loffset=)": "a shift of the result's index",
        "set_axis(inplace=)": "the DataFrame that it returns",
        "sort_index(by=)": "DataFrame.sort_values(by)",
        "to_csv(line_terminator=)": "lineterminator=",
        "to_csv(tupleize_cols=)": LEAVE_IT_OUT,
        "to_datetime(box=)": LEAVE_IT_OUT,
        "to_datetime(infer_datetime_format=)": LEAVE_IT_OUT,
        "to_excel(encoding=)": LEAVE_IT_OUT,
        "MultiIndex(labels=)": "codes=",
        "DatetimeIndex(start=)": "pd.date_range",
        "all(level=)": "df.groupby(level=…).all()",
        "any(level=)": "df.groupby(level=…).any()",
        "count(level=)": "df.groupby(level=…).count()",
        "max(level=)": "df.groupby(level=…).max()",
        "mean(level=)": "df.groupby(level=…).mean()",
        "median(level=)": "df.groupby(level=…).median()",
        "min(level=)": "df.groupby(level=…).min()",
        "std(level=)": "df.groupby(level=…).std()",
        "sum(level=)": "df.groupby(level=…).sum()",
        "rename_categories(inplace=)": "the categories that it returns",
        "add_categories(inplace=)": "the categories that it returns",
        "display.max_colwidth = -1": "None instead of -1",
        "nested dictionaries in agg": "agg(name=(column, function))",
        'errors="ignore"': 'errors="coerce", or try and except',
    },
    "numpy": {
        "numpy.Inf": "np.inf",
        "numpy.Infinity": "np.inf",
        "numpy.NAN": "np.nan",
        "numpy.NINF": "-np.inf",
        "numpy.NaN": "np.nan",
        "numpy.PINF": "np.inf",
        "numpy.ComplexWarning": "np.exceptions.ComplexWarning",
        "numpy.RankWarning": "np.exceptions.RankWarning",
        "numpy.VisibleDeprecationWarning": "np.exceptions.VisibleDeprecationWarning",
        "numpy.alltrue": "np.all",
        "numpy.asfarray": "np.asarray(values, dtype=float)",
        "numpy.asscalar": "array.item()",
        "numpy.bool8": "np.bool_",
        "numpy.complex": "complex",
        "numpy.complex_": "np.complex128",
        "numpy.cumproduct": "np.cumprod",
        "numpy.float": "float",
        "numpy.float_": "np.float64",
        "numpy.in1d": "np.isin",
        "numpy.infty": "np.inf",
        "numpy.int": "int",
        "numpy.loads": "pickle.loads",
        "numpy.mat": "np.asmatrix",
        "numpy.msort": "np.sort(values, axis=0)",
        "numpy.object": "object",
        "numpy.product": "np.prod",
        "numpy.rank": "np.ndim",
        "numpy.round_": "np.round",
        "numpy.sometrue": "np.any",
        "numpy.str": "str",
        "numpy.string_": "np.bytes_",
        "numpy.trapz": "np.trapezoid",
        "numpy.typeDict": "np.sctypeDict",
        "numpy.unicode": "str",
        "numpy.unicode_": "np.str_",
        "numpy.warnings": "import warnings",
        "ndarray.itemset": "array[index] = value",
        "ndarray.ptp": "np.ptp(array)",
        "histogram(normed=)": "density=True",
        "percentile(interpolation=)": "method=",
    },
    "matplotlib": {
        "matplotlib.cm.cmap_d": "matplotlib.colormaps",
        "matplotlib.cm.get_cmap": "plt.get_cmap, or matplotlib.colormaps[name]",
        "matplotlib.cm.register_cmap": "matplotlib.colormaps.register",
        "matplotlib.cm.spectral": "plt.cm.nipy_spectral",
        "matplotlib.cbook.is_string_like": "isinstance(value, str)",
        "matplotlib.cbook.iterable": "np.iterable",
        "matplotlib.cbook.mplDeprecation": "matplotlib.MatplotlibDeprecationWarning",
        "matplotlib.colors.DivergingNorm": "matplotlib.colors.TwoSlopeNorm",
        "matplotlib.dates.epoch2num": "matplotlib.dates.date2num",
        "matplotlib.dates.num2epoch": "matplotlib.dates.num2date",
        "matplotlib.mlab.griddata": "scipy.interpolate.griddata",
        "matplotlib.mlab.normpdf": "scipy.stats.norm.pdf",
        "matplotlib.pyplot.hold": LEAVE_IT_OUT,
        "matplotlib.pyplot.plot_date": "plt.plot",
        "mpl_toolkits.axes_grid": "mpl_toolkits.axes_grid1",
        "Axes.get_axis_bgcolor": "Axes.get_facecolor",
        "Axes.is_first_col": "ax.get_subplotspec().is_first_col()",
        "Axes.is_first_row": "ax.get_subplotspec().is_first_row()",
        "Axes.is_last_col": "ax.get_subplotspec().is_last_col()",
        "Axes.is_last_row": "ax.get_subplotspec().is_last_row()",
        "Axes.plot_date": "Axes.plot",
        "Axes.set_axis_bgcolor": "Axes.set_facecolor",
        "Axes.set_color_cycle": "Axes.set_prop_cycle(color=)",
        "FigureCanvasAgg.set_window_title": "fig.canvas.manager.set_window_title",
        "FigureCanvasAgg.tostring_rgb": "fig.canvas.buffer_rgba()",
        "GrouperView.join": "ax.sharex(other) or ax.sharey(other)",
        "Legend.draggable": "Legend.set_draggable(True)",
        "Legend.legendHandles": "Legend.legend_handles",
        "QuadContourSet.collections": "the contour set itself",
        "axes(axisbg=)": "facecolor=",
        "boxplot(labels=)": "tick_labels=",
        "gca(projection=)": 'fig.add_subplot(projection="3d")',
        "grid(b=)": "visible=",
        "hist(normed=)": "density=True",
        "savefig(frameon=)": "facecolor=",
        "savefig(quality=)": 'pil_kwargs={"quality": 90}',
        "stem(use_line_collection=)": LEAVE_IT_OUT,
        "use(warn=)": LEAVE_IT_OUT,
        "xscale(basex=)": "base=",
        "xscale(linthreshx=)": "linthresh=",
        "xscale(nonposx=)": 'nonpositive="clip"',
        "yscale(basey=)": "base=",
        "yscale(linthreshy=)": "linthresh=",
        "yscale(nonposy=)": 'nonpositive="clip"',
        **{f"the style 'seaborn{kind}'": f"'seaborn-v0_8{kind}'" for kind in SEABORN_STYLES},
    },
    "geopandas": {
        "geopandas.datasets": "gpd.read_file, with a file in the inputs folder",
        "GeoSeries.cascaded_union": "GeoSeries.union_all()",
        "GeoSeries.geom_almost_equals": "GeoSeries.geom_equals_exact(other, tolerance)",
        "overlay(use_sindex=)": LEAVE_IT_OUT,
        "plot(colormap=)": "cmap=",
        "sjoin(op=)": "predicate=",
    },
    "shapely": {
        "shapely.ops.cascaded_union": "shapely.ops.unary_union",
        "shapely.geometry.asPoint": "shapely.geometry.Point",
        "shapely.geometry.asShape": "shapely.geometry.shape",
        "Point.almost_equals": "Point.equals_exact(other, tolerance)",
        "STRtree.query_geoms": "STRtree.query",
        "GeometryCollection as a list": "GeometryCollection.geoms",
        "MultiLineString as a list": "MultiLineString.geoms",
        "MultiPoint as a list": "MultiPoint.geoms",
        "MultiPolygon as a list": "MultiPolygon.geoms",
    },
    "pyproj": {
        "Proj.is_latlong": "Proj.crs.is_geographic",
        "CRS as a dictionary": "crs.to_epsg() or crs.to_dict()",
    },
    "flowclient": {
        "flowclient.daily_location": "flowclient.daily_location_spec",
        "flowclient.modal_location": "flowclient.modal_location_spec",
        "flowclient.modal_location_from_dates": "flowclient.modal_location_from_dates_spec",
        "flowclient.radius_of_gyration": "flowclient.radius_of_gyration_spec",
        "flowclient.random_sample": "flowclient.random_sample_spec",
        "flowclient.subscriber_degree": "flowclient.subscriber_degree_spec",
        "queries without a connection": "flowclient.flows(connection=conn, …), for example",
    },
    "papermill": {
        "papermill.display": "scrapbook.read_notebook(path).reglue(name)",
        "papermill.read_notebook": "scrapbook.read_notebook",
        "papermill.read_notebooks": "scrapbook.read_notebooks",
        "papermill.record": "scrapbook.glue",
    },
    "ipython": {
        "InteractiveShell.magic": "get_ipython().run_line_magic(name, arguments)",
        "IPython.core.display.display": "from IPython.display import display",
        "IPython.core.display.set_matplotlib_formats": "matplotlib_inline.backend_inline.set_matplotlib_formats",
        "IPython.display.set_matplotlib_formats": "matplotlib_inline.backend_inline.set_matplotlib_formats",
        "IPython.html": "import ipywidgets",
        "IPython.nbformat": "import nbformat",
    },
    "pillow": {
        "PIL.Image.ANTIALIAS": "Image.LANCZOS",
        "FreeTypeFont.getsize": "font.getbbox",
        "ImageDraw.textsize": "draw.textbbox",
    },
    "jinja2": {
        "jinja2.Markup": "markupsafe.Markup",
        "jinja2.contextfilter": "jinja2.pass_context",
        "jinja2.escape": "markupsafe.escape",
    },
    "pyyaml": {
        "yaml.load without a Loader": "yaml.safe_load",
    },
    "Python": {
        "asyncio.coroutine": "async def",
        "base64.encodestring": "base64.encodebytes",
        "cgi.escape": "html.escape",
        "collections.Callable": "collections.abc.Callable",
        "collections.Iterable": "collections.abc.Iterable",
        "collections.Mapping": "collections.abc.Mapping",
        "collections.MutableMapping": "collections.abc.MutableMapping",
        "collections.Sequence": "collections.abc.Sequence",
        "fractions.gcd": "math.gcd",
        "inspect.getargspec": "inspect.getfullargspec",
        "Thread.isAlive": "thread.is_alive()",
        "time.clock": "time.perf_counter",
    },
}
"""For each library, the names that its installed version no longer has, and their replacements."""

_LIBRARIES = {name: library for library, names in DROPPED.items() for name in names}

_FORMS = (
    (re.compile(r"^'(?:\w+\.)*(\w+)' object has no attribute '(\w+)'"), "{}.{}"),
    (re.compile(r"^type object '(\w+)' has no attribute '(\w+)'"), "{}.{}"),
    (re.compile(r"^module '([\w.]+)' has no attribute '(\w+)'"), "{}.{}"),
    (re.compile(r"^cannot import name '(\w+)' from '([\w.]+)'"), "{1}.{0}"),
    (re.compile(r"^No module named '([\w.]+)'"), "{}"),
    (re.compile(r"^`np\.(\w+)` was removed"), "numpy.{}"),
    (re.compile(r"^The (geopandas\.dataset)\b"), "{}s"),
    (re.compile(r"^(?:\w+\.)*(\w+\.\w+)\(\) got an unexpected keyword argument '(\w+)'"), "{}({}=)"),
    (re.compile(r"^(?:\w+\.)*(\w+)\(\) got an unexpected keyword argument '(\w+)'"), "{}({}=)"),
    (re.compile(r"^keyword (grid)_(b) is not recognized"), "{}({}=)"),
    (re.compile(r"^'([\w-]+)' is not a valid package style"), "the style '{}'"),
    (re.compile(r"^'(CRS)' object is not subscriptable$"), "{} as a dictionary"),
    (re.compile(r"^'(\w+)' object is not (?:iterable|subscriptable)$"), "{} as a list"),
    (re.compile(r"^object of type '(\w+)' has no len\(\)$"), "{} as a list"),
    (re.compile(r"^Value must be a nonnegative integer or None$"), "display.max_colwidth = -1"),
    (re.compile(r"^nested renamer is not supported$"), "nested dictionaries in agg"),
    (re.compile(r"^invalid error value specified$"), 'errors="ignore"'),
    (re.compile(r"^errors must be one of 'raise', or 'coerce'"), 'errors="ignore"'),
    (re.compile(r"^load\(\) missing 1 required positional argument: 'Loader'$"), "yaml.load without a Loader"),
    (re.compile(r"^\w+\(\) missing 1 required keyword-only argument: 'connection'$"), "queries without a connection"),
)
"""What errors say about a name, and how the table writes the name."""

_OTHERWISE = {
    "MultiIndex.__new__(labels=)": "MultiIndex(labels=)",
    "DatetimeIndex.__new__(start=)": "DatetimeIndex(start=)",
    "LineCollection.set(colormap=)": "plot(colormap=)",
    "PatchCollection.set(colormap=)": "plot(colormap=)",
    "PathCollection.set(colormap=)": "plot(colormap=)",
    "_GeoPandasPolyCollection.set(colormap=)": "plot(colormap=)",
    "DatetimeArray._generate_range(closed=)": "date_range(closed=)",
    "Polygon.set(normed=)": "hist(normed=)",
    "Rectangle.set(normed=)": "hist(normed=)",
    "Axes.set(axisbg=)": "axes(axisbg=)",
    "FigureCanvasAgg.print_png(frameon=)": "savefig(frameon=)",
    "FigureCanvasAgg.print_jpg(quality=)": "savefig(quality=)",
    "LogScale.__init__(basex=)": "xscale(basex=)",
    "LogScale.__init__(nonposx=)": "xscale(nonposx=)",
    "LogScale.__init__(basey=)": "yscale(basey=)",
    "LogScale.__init__(nonposy=)": "yscale(nonposy=)",
    "SymmetricalLogScale.__init__(linthreshx=)": "xscale(linthreshx=)",
    "SymmetricalLogScale.__init__(linthreshy=)": "yscale(linthreshy=)",
}
"""The table's names for what errors name differently: the inner functions that refuse an argument."""

_PARENTS = (
    (re.compile(r"^Geo(?=DataFrame\.|Series\.)"), ""),
    (re.compile(r"^GeoDataFrame(?=\.)"), "GeoSeries"),
    (re.compile(r"^(DataFrame|Series)GroupBy(?=\.)"), r"\1"),
    (re.compile(r"^\w+Index(?=\.)"), "Index"),
    (re.compile(r"^ZMQ(?=InteractiveShell\.)"), ""),
)
"""Classes that have the names of others."""

_BY_NAME = re.compile(
    r"^(?:(?P<pandas>(?:NDFrame|DataFrame|Series|\w*Index|StringMethods|Styler)\.\w+|concat|read_\w+)(?=\(\) takes)"
    r"|(?P<flowclient>connect|flows|get_(?:available_dates|geography|result\w*|status)|run_query|spatial_aggregate"
    r"|\w+_spec)(?=\(\) takes 0 ))"
    r"\(\) takes (?:from \d+ to )?\d+ positional arguments? but"
)
"""What errors say about arguments that now need their names."""


def replacement(message: str, *, has_own_python: bool) -> str:
    """Return what to use instead of a name that a library dropped, if `message` is about one; otherwise nothing.

    `message` is that of a notebook's exception. Without AutoFlow's own Python, the kernel's versions are unknown.
    """
    if taken := _BY_NAME.match(message):
        library = str(taken.lastgroup)
        where = f"{_versioned(library, has_own_python)} takes fewer arguments of {taken[library]} without their names"
        return f"{where}; write them as name=value"
    for shown, name in _names(message):
        if library := _LIBRARIES.get(name, ""):
            new = DROPPED[library][name]
            advice = f"use {new}" if new else "leave it out"
            return f"{_versioned(library, has_own_python)} no longer has {shown}; {advice}"
    return ""


def _names(message: str) -> Iterator[tuple[str, str]]:
    """Yield names that `message` may be about, for people and as in the table."""
    for form, template in _FORMS:
        if found := form.match(message):
            shown = template.format(*found.groups())
            yield from ((name, name) for name in (shown, _OTHERWISE.get(shown, "")))
            yield from ((shown, parent.sub(other, shown)) for parent, other in _PARENTS)


def _versioned(library: str, has_own_python: bool) -> str:
    """Return the name of `library` with its installed version, if that is known."""
    if not has_own_python:
        return library
    if library == "Python":
        return f"Python {platform.python_version()}"
    try:
        return f"{library} {metadata.version(library)}"
    except metadata.PackageNotFoundError:
        return library
