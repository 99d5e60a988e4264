"""Each name in the table of dropped names is really gone from the installed library, and its replacement works."""

import platform
import warnings
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from autoflow.notebooks.dropped_names import DROPPED, SEABORN_STYLES, replacement
from autoflow.notebooks.hints import with_hint

PREAMBLE = """
import asyncio, base64, collections, collections.abc, datetime, inspect, io, pickle, threading, time, yaml
import flowclient, geopandas as gpd, IPython.display, jinja2, markupsafe, matplotlib, matplotlib_inline.backend_inline
import matplotlib.cbook, matplotlib.cm, matplotlib.dates, matplotlib.mlab, matplotlib.pyplot as plt
import numpy as np, pandas as pd, papermill, pandas.core.common, PIL.Image, PIL.ImageDraw, PIL.ImageFont, pyproj
import scrapbook, shapely.ops, shapely.strtree
from shapely.geometry import GeometryCollection, MultiLineString, MultiPoint, MultiPolygon, Point, box
df = pd.DataFrame({"a": [1, 2], "b": [3.0, 4.0]})
dates = pd.date_range("2016-01-01", periods=2)
dated = df.set_axis(dates)
leveled = df.set_axis(pd.MultiIndex.from_product([["x"], ["y", "z"]]))
text = lambda: io.StringIO("a b\\n1 2\\n")
gdf = gpd.GeoDataFrame(df, geometry=[Point(0, 0), Point(1, 1)])
array = np.array([1])
"""

OLD: dict[str, tuple[str, str]] = {
    "DataFrame.sort": ("df.sort('a')", "df.sort_values('a')"),
    "DataFrame.to_msgpack": ("df.to_msgpack('x')", "df.to_parquet; df.to_pickle"),
    "Series.from_csv": ("pd.Series.from_csv('x')", "pd.read_csv"),
    "Series.order": ("df.a.order()", "df.a.sort_values()"),
    "Series.reshape": ("df.a.reshape(1, 2)", "df.a.to_numpy().reshape(1, 2)"),
    "Series.sort": ("df.a.sort()", "df.a.sort_values()"),
    "Index.to_datetime": ("dates.to_datetime()", "pd.to_datetime(dates)"),
    "Timestamp.to_datetime": ("dates[0].to_datetime()", "dates[0].to_pydatetime()"),
    "pandas.read_gbq": ("pd.read_gbq('x')", ""),
    "pandas.read_msgpack": ("pd.read_msgpack('x')", "pd.read_parquet; pd.read_pickle"),
    "describe(datetime_is_numeric=)": ("df.describe(datetime_is_numeric=True)", ""),
    "drop_duplicates(take_last=)": ("df.drop_duplicates(take_last=True)", "df.drop_duplicates(keep='last')"),
    "groupby(squeeze=)": ("df.groupby('a', squeeze=True)", ""),
    "read_excel(parse_cols=)": (
        "pd.read_excel('x', parse_cols='A')",
        "inspect.signature(pd.read_excel).bind('x', usecols='A')",
    ),
    "read_excel(sheetname=)": (
        "pd.read_excel('x', sheetname='x')",
        "inspect.signature(pd.read_excel).bind('x', sheet_name='x')",
    ),
    "set_axis(inplace=)": ("df.set_axis(['x', 'y'], axis=1, inplace=True)", "df.set_axis(['x', 'y'], axis=1)"),
    "sort_index(by=)": ("df.sort_index(by='a')", "df.sort_values('a')"),
    "to_datetime(box=)": ("pd.to_datetime(['2016-01-01'], box=False)", ""),
    "DatetimeIndex(start=)": (
        "pd.DatetimeIndex(start='2016-01-01', periods=2, freq='D')",
        "pd.date_range(start='2016-01-01', periods=2, freq='D')",
    ),
    "nested dictionaries in agg": (
        "df.groupby('a').agg({'b': {'x': 'sum'}})",
        "df.groupby('a').agg(x=('b', 'sum'))",
    ),
    'errors="ignore"': ("pd.to_numeric('x', errors='ignore')", "pd.to_numeric('x', errors='coerce')"),
    "numpy.ComplexWarning": ("np.ComplexWarning", "np.exceptions.ComplexWarning"),
    "numpy.RankWarning": ("np.RankWarning", "np.exceptions.RankWarning"),
    "numpy.VisibleDeprecationWarning": (
        "np.VisibleDeprecationWarning",
        "np.exceptions.VisibleDeprecationWarning",
    ),
    "numpy.bool8": ("np.bool8", "np.bool_"),
    "numpy.warnings": ("np.warnings.simplefilter('ignore')", "import warnings"),
    "matplotlib.cm.cmap_d": ("matplotlib.cm.cmap_d", "matplotlib.colormaps"),
    "matplotlib.colors.DivergingNorm": (
        "from matplotlib.colors import DivergingNorm",
        "from matplotlib.colors import TwoSlopeNorm",
    ),
    **{
        f"Axes.{name}": (f"plt.gca().{name}()", f"plt.subplots()[1].get_subplotspec().{name}()")
        for name in ("is_first_col", "is_first_row", "is_last_col", "is_last_row")
    },
    "Axes.set_color_cycle": ("plt.gca().set_color_cycle(['r'])", "plt.gca().set_prop_cycle(color=['r'])"),
    "GeoSeries.geom_almost_equals": (
        "gdf.geometry.geom_almost_equals(gdf.geometry)",
        "gdf.geometry.geom_equals_exact(gdf.geometry, 1e-6)",
    ),
    "overlay(use_sindex=)": ("gpd.overlay(gdf, gdf, use_sindex=True)", ""),
    "plot(colormap=)": ("gdf.plot(colormap='viridis')", "gdf.plot(cmap='viridis')"),
    "CRS as a dictionary": (
        "gdf.set_crs('epsg:4326').crs['init']",
        "gdf.set_crs('epsg:4326').crs.to_epsg(); gdf.set_crs('epsg:4326').crs.to_dict()",
    ),
    "InteractiveShell.magic": (
        "IPython.InteractiveShell.magic('matplotlib inline')",
        "IPython.InteractiveShell.run_line_magic",
    ),
    "IPython.nbformat": ("from IPython.nbformat import current", "import nbformat"),
    "yaml.load without a Loader": ("yaml.load('a: 1')", "yaml.safe_load('a: 1')"),
    "base64.encodestring": ("base64.encodestring(b'')", "base64.encodebytes(b'')"),
    "cgi.escape": ("from cgi import escape", "from html import escape"),
    "fractions.gcd": ("from fractions import gcd", "from math import gcd"),
    "Thread.isAlive": ("threading.Thread().isAlive()", "threading.Thread().is_alive()"),
    "Styler.hide_index": ("df.style.hide_index()", 'df.style.hide(axis="index")'),
    "Styler.hide_columns": ('df.style.hide_columns(["a"])', 'df.style.hide(["a"], axis="columns")'),
    "Styler.set_precision": ("df.style.set_precision(2)", "df.style.format(precision=2)"),
    "Styler.set_na_rep": ('df.style.set_na_rep("-")', 'df.style.format(na_rep="-")'),
    "Styler.applymap": ("df.style.applymap(str)", "df.style.map(str)"),
    "Styler.applymap_index": ("df.style.applymap_index(str)", "df.style.map_index(str)"),
    "Styler.render": ("df.style.render()", "df.style.to_html()"),
    "Styler.where": ("df.style.where(bool, 'color: red')", "df.style.map(lambda value: 'color: red')"),
    "highlight_null(null_color=)": (
        "df.style.highlight_null(null_color='red')",
        "df.style.highlight_null(color='red')",
    ),
    "DataFrame.append": ("df.append({'a': 2}, ignore_index=True)", "pd.concat([df, df])"),
    "DataFrame.applymap": ("df.applymap(str)", "df.map(str)"),
    "DataFrame.as_matrix": ("df.as_matrix()", "df.to_numpy()"),
    "DataFrame.backfill": ("df.backfill()", "df.bfill()"),
    "DataFrame.clip_lower": ("df.clip_lower(1)", "df.clip(lower=1)"),
    "DataFrame.clip_upper": ("df.clip_upper(1)", "df.clip(upper=1)"),
    "DataFrame.convert_objects": (
        "df.convert_objects()",
        "df.infer_objects(); pd.to_numeric(df.a); pd.to_datetime(df.a)",
    ),
    "DataFrame.from_csv": ("pd.DataFrame.from_csv('x')", "pd.read_csv"),
    "DataFrame.from_items": ("pd.DataFrame.from_items([('a', [1])])", "pd.DataFrame(dict([('a', [1])]))"),
    "DataFrame.get_dtype_counts": ("df.get_dtype_counts()", "df.dtypes.value_counts()"),
    "DataFrame.get_value": ("df.get_value(0, 'a')", "df.at[0, 'a']"),
    "DataFrame.iteritems": ("df.iteritems()", "df.items()"),
    "DataFrame.ix": ("df.ix[0]", "df.loc[0]; df.iloc[0]"),
    "DataFrame.lookup": ("df.lookup([0], ['a'])", "df.to_numpy()[[0], [0]]; df.melt().loc[0]"),
    "DataFrame.mad": ("df.mad()", "(df - df.mean()).abs().mean()"),
    "DataFrame.pad": ("df.pad()", "df.ffill()"),
    "DataFrame.reindex_axis": ("df.reindex_axis([0], axis=0)", "df.reindex([0], axis=0)"),
    "DataFrame.set_value": ("df.set_value(0, 'a', 2)", "df.copy().at[0, 'a'] = 2"),
    "DataFrame.slice_shift": ("df.slice_shift(1)", "df.shift(1)"),
    "DataFrame.swapaxes": ("df.swapaxes(0, 1)", "df.transpose()"),
    "DataFrame.to_panel": ("df.to_panel()", "leveled"),
    "DataFrame.to_sparse": ("df.to_sparse()", "df.astype('Sparse')"),
    "DataFrame.tshift": ("dated.tshift(1)", "dated.shift(freq='D')"),
    "Series.append": ("df.a.append(df.b)", "pd.concat([df.a, df.b])"),
    "Series.as_matrix": ("df.a.as_matrix()", "df.a.to_numpy()"),
    "Series.backfill": ("df.a.backfill()", "df.a.bfill()"),
    "Series.clip_lower": ("df.a.clip_lower(1)", "df.a.clip(lower=1)"),
    "Series.clip_upper": ("df.a.clip_upper(1)", "df.a.clip(upper=1)"),
    "Series.compress": ("df.a.compress([True, False])", "df.a[[True, False]]"),
    "Series.get_value": ("df.a.get_value(0)", "df.a.at[0]"),
    "Series.get_values": ("df.a.get_values()", "df.a.to_numpy()"),
    "Series.is_monotonic": ("df.a.is_monotonic", "df.a.is_monotonic_increasing"),
    "Series.iteritems": ("df.a.iteritems()", "df.a.items()"),
    "Series.ix": ("df.a.ix[0]", "df.a.loc[0]; df.a.iloc[0]"),
    "Series.mad": ("df.a.mad()", "(df.a - df.a.mean()).abs().mean()"),
    "Series.nonzero": ("df.a.nonzero()", "df.a.to_numpy().nonzero()"),
    "Series.pad": ("df.a.pad()", "df.a.ffill()"),
    "Series.ptp": ("df.a.ptp()", "df.a.max() - df.a.min()"),
    "Series.ravel": ("df.a.ravel()", "df.a.to_numpy()"),
    "Series.set_value": ("df.a.set_value(0, 1)", "df.a.copy().at[0] = 1"),
    "Series.tshift": ("dated.a.tshift(1)", "dated.a.shift(freq='D')"),
    "Series.valid": ("df.a.valid()", "df.a.dropna()"),
    "Series.view": ("df.a.view('float64')", "df.a.astype('float64')"),
    "Index.contains": ("df.index.contains(0)", "0 in df.index"),
    "Index.get_duplicates": ("df.index.get_duplicates()", "df.index[df.index.duplicated()].unique()"),
    "Index.is_all_dates": ("df.index.is_all_dates", "isinstance(df.index, pd.DatetimeIndex)"),
    "Index.is_monotonic": ("dates.is_monotonic", "dates.is_monotonic_increasing"),
    "Index.is_numeric": ("df.index.is_numeric()", "pd.api.types.is_numeric_dtype(df.index)"),
    "Index.labels": ("leveled.index.labels", "leveled.index.codes"),
    "Index.set_labels": ("leveled.index.set_labels([[0, 0], [0, 1]])", "leveled.index.set_codes([[0, 0], [0, 1]])"),
    "Index.week": ("dates.week", "dates.isocalendar().week"),
    "Index.weekday_name": ("dates.weekday_name", "dates.day_name()"),
    "Index.weekofyear": ("dates.weekofyear", "dates.isocalendar().week"),
    "DatetimeProperties.week": ("pd.Series(dates).dt.week", "pd.Series(dates).dt.isocalendar().week"),
    "DatetimeProperties.weekday_name": ("pd.Series(dates).dt.weekday_name", "pd.Series(dates).dt.day_name()"),
    "DatetimeProperties.weekofyear": ("pd.Series(dates).dt.weekofyear", "pd.Series(dates).dt.isocalendar().week"),
    "Timestamp.weekday_name": ("dates[0].weekday_name", "dates[0].day_name()"),
    "pandas.Float64Index": ("pd.Float64Index([1])", "pd.Index([1], dtype='float64')"),
    "pandas.Int64Index": ("from pandas import Int64Index", "pd.Index([1], dtype='int64')"),
    "pandas.UInt64Index": ("pd.UInt64Index([1])", "pd.Index([1], dtype='uint64')"),
    "pandas.Panel": ("pd.Panel()", "leveled"),
    "pandas.SparseDataFrame": ("pd.SparseDataFrame()", "df.astype('Sparse')"),
    "pandas.TimeGrouper": ("pd.TimeGrouper('D')", "pd.Grouper(freq='D')"),
    "pandas.datetime": ("pd.datetime(2016, 1, 1)", "datetime.datetime(2016, 1, 1)"),
    "pandas.ewma": ("pd.ewma(df.a, span=2)", "df.a.ewm(span=2).mean()"),
    "pandas.get_store": ("pd.get_store('x')", "pd.HDFStore"),
    "pandas.np": ("pd.np.nan", "np.nan"),
    "pandas.rolling_mean": ("pd.rolling_mean(df.a, 1)", "df.a.rolling(1).mean()"),
    "pandas.rolling_std": ("pd.rolling_std(df.a, 1)", "df.a.rolling(2).std()"),
    "pandas.rolling_sum": ("pd.rolling_sum(df.a, 1)", "df.a.rolling(1).sum()"),
    "pandas.scatter_matrix": ("pd.scatter_matrix(df)", "pd.plotting.scatter_matrix"),
    "pandas.value_counts": ("pd.value_counts([1])", "pd.Series([1]).value_counts()"),
    "pandas.io.json.json_normalize": ("from pandas.io.json import json_normalize", "pd.json_normalize({'a': 1})"),
    "pandas.core.common.SettingWithCopyWarning": ("pd.core.common.SettingWithCopyWarning", ""),
    "pandas.tools": ("import pandas.tools", "pd.plotting"),
    "pandas.util.testing": ("from pandas.util.testing import assert_frame_equal", "pd.testing.assert_frame_equal"),
    "concat(join_axes=)": ("pd.concat([df], join_axes=[df.index])", "pd.concat([df]).reindex(df.index)"),
    "date_range(closed=)": (
        "pd.date_range('2016-01-01', '2016-01-03', closed='left')",
        "pd.date_range('2016-01-01', '2016-01-03', inclusive='left')",
    ),
    "fillna(method=)": ("df.fillna(method='ffill')", "df.ffill(); df.bfill()"),
    "groupby(axis=)": ("df.groupby('a', axis=1)", "df.T.groupby(level=0)"),
    "read_csv(date_parser=)": ("pd.read_csv(text(), date_parser=str)", "pd.read_csv(text(), date_format='%Y')"),
    "read_csv(delim_whitespace=)": ("pd.read_csv(text(), delim_whitespace=True)", r"pd.read_csv(text(), sep=r'\s+')"),
    "read_csv(error_bad_lines=)": (
        "pd.read_csv(text(), error_bad_lines=False)",
        "pd.read_csv(text(), on_bad_lines='skip')",
    ),
    "read_csv(infer_datetime_format=)": ("pd.read_csv(text(), infer_datetime_format=True)", ""),
    "read_csv(mangle_dupe_cols=)": ("pd.read_csv(text(), mangle_dupe_cols=True)", ""),
    "read_csv(prefix=)": ("pd.read_csv(text(), prefix='x')", "df.add_prefix('x')"),
    "read_csv(squeeze=)": ("pd.read_csv(text(), squeeze=True)", "pd.read_csv(text()).squeeze('columns')"),
    "read_csv(tupleize_cols=)": ("pd.read_csv(text(), tupleize_cols=True)", ""),
    "read_csv(warn_bad_lines=)": (
        "pd.read_csv(text(), warn_bad_lines=True)",
        "pd.read_csv(text(), on_bad_lines='warn')",
    ),
    "resample(base=)": ("dated.resample('D', base=1)", "dated.resample('D', offset='1h')"),
    "resample(how=)": ("dated.resample('D', how='mean')", "dated.resample('D').mean()"),
    "resample(kind=)": ("dated.resample('D', kind='period')", ""),
    "resample(loffset=)": ("dated.a.resample('D', loffset='1h')", "dated.resample('D').mean().shift(freq='h')"),
    "to_csv(line_terminator=)": ("df.to_csv(line_terminator='\\n')", "df.to_csv(lineterminator='\\n')"),
    "to_csv(tupleize_cols=)": ("df.to_csv(tupleize_cols=True)", ""),
    "to_datetime(infer_datetime_format=)": ("pd.to_datetime('2016-01-01', infer_datetime_format=True)", ""),
    "to_excel(encoding=)": ("df.to_excel('x.xlsx', encoding='utf-8')", ""),
    "MultiIndex(labels=)": (
        "pd.MultiIndex(levels=[['x']], labels=[[0]])",
        "pd.MultiIndex(levels=[['x']], codes=[[0]])",
    ),
    "rename_categories(inplace=)": (
        "df.a.astype('category').cat.rename_categories(['x', 'y'], inplace=True)",
        "df.a.astype('category').cat.rename_categories(['x', 'y'])",
    ),
    "add_categories(inplace=)": (
        "df.a.astype('category').cat.add_categories(['x'], inplace=True)",
        "df.a.astype('category').cat.add_categories(['x'])",
    ),
    **{
        f"{name}(level=)": (f"leveled.{name}(level=0)", f"leveled.groupby(level=0).{name}()")
        for name in ("all", "any", "count", "max", "mean", "median", "min", "std", "sum")
    },
    "display.max_colwidth = -1": (
        "pd.set_option('display.max_colwidth', -1)",
        "pd.set_option('display.max_colwidth', None); pd.reset_option('display.max_colwidth')",
    ),
    "numpy.Inf": ("np.Inf", "np.inf"),
    "numpy.Infinity": ("np.Infinity", "np.inf"),
    "numpy.NAN": ("np.NAN", "np.nan"),
    "numpy.NINF": ("np.NINF", "-np.inf"),
    "numpy.NaN": ("from numpy import NaN", "np.nan"),
    "numpy.PINF": ("np.PINF", "np.inf"),
    "numpy.alltrue": ("np.alltrue([1])", "np.all([1])"),
    "numpy.asfarray": ("np.asfarray([1])", "np.asarray([1], dtype=float)"),
    "numpy.asscalar": ("np.asscalar(array)", "array.item()"),
    "numpy.complex": ("np.complex", "complex"),
    "numpy.complex_": ("np.complex_", "np.complex128"),
    "numpy.cumproduct": ("np.cumproduct([1])", "np.cumprod([1])"),
    "numpy.float": ("df.a.astype(np.float)", "df.a.astype(float)"),
    "numpy.float_": ("np.float_", "np.float64"),
    "numpy.in1d": ("np.in1d([1], [1])", "np.isin([1], [1])"),
    "numpy.infty": ("np.infty", "np.inf"),
    "numpy.int": ("np.int", "int"),
    "numpy.loads": ("np.loads(b'')", "pickle.loads"),
    "numpy.mat": ("np.mat('1 2')", "np.asmatrix('1 2')"),
    "numpy.msort": ("np.msort([1])", "np.sort([1], axis=0)"),
    "numpy.object": ("np.object", "object"),
    "numpy.product": ("np.product([1])", "np.prod([1])"),
    "numpy.rank": ("np.rank([1])", "np.ndim([1])"),
    "numpy.round_": ("np.round_(1.0)", "np.round(1.0)"),
    "numpy.sometrue": ("np.sometrue([1])", "np.any([1])"),
    "numpy.str": ("np.str", "str"),
    "numpy.string_": ("np.string_", "np.bytes_"),
    "numpy.trapz": ("np.trapz([1])", "np.trapezoid([1])"),
    "numpy.typeDict": ("np.typeDict", "np.sctypeDict"),
    "numpy.unicode": ("np.unicode", "str"),
    "numpy.unicode_": ("np.unicode_", "np.str_"),
    "ndarray.itemset": ("array.itemset(0, 1)", "array[0] = 1"),
    "ndarray.ptp": ("array.ptp()", "np.ptp(array)"),
    "histogram(normed=)": ("np.histogram([1], normed=True)", "np.histogram([1], density=True)"),
    "percentile(interpolation=)": (
        "np.percentile([1], 1, interpolation='lower')",
        "np.percentile([1], 1, method='lower')",
    ),
    "matplotlib.cm.get_cmap": (
        "plt.cm.get_cmap('viridis')",
        "plt.get_cmap('viridis'); matplotlib.colormaps['viridis']",
    ),
    "matplotlib.cm.register_cmap": ("matplotlib.cm.register_cmap('x')", "matplotlib.colormaps.register"),
    "matplotlib.cm.spectral": ("plt.cm.spectral", "plt.cm.nipy_spectral"),
    "matplotlib.cbook.is_string_like": ("from matplotlib.cbook import is_string_like", "isinstance('', str)"),
    "matplotlib.cbook.iterable": ("matplotlib.cbook.iterable([1])", "np.iterable([1])"),
    "matplotlib.cbook.mplDeprecation": ("matplotlib.cbook.mplDeprecation", "matplotlib.MatplotlibDeprecationWarning"),
    "matplotlib.dates.epoch2num": ("matplotlib.dates.epoch2num(1)", "matplotlib.dates.date2num(dates[0])"),
    "matplotlib.dates.num2epoch": ("matplotlib.dates.num2epoch(1)", "matplotlib.dates.num2date(1)"),
    "matplotlib.mlab.griddata": ("from matplotlib.mlab import griddata", ""),
    "matplotlib.mlab.normpdf": ("matplotlib.mlab.normpdf(1, 0, 1)", ""),
    "matplotlib.pyplot.hold": ("plt.hold(True)", ""),
    "matplotlib.pyplot.plot_date": ("plt.plot_date([1], [1])", "plt.plot(dates, [1, 2])"),
    "mpl_toolkits.axes_grid": (
        "from mpl_toolkits.axes_grid import make_axes_locatable",
        "from mpl_toolkits.axes_grid1 import make_axes_locatable",
    ),
    "Axes.get_axis_bgcolor": ("plt.gca().get_axis_bgcolor()", "plt.gca().get_facecolor()"),
    "Axes.plot_date": ("plt.gca().plot_date([1], [1])", "plt.gca().plot(dates, [1, 2])"),
    "Axes.set_axis_bgcolor": ("plt.gca().set_axis_bgcolor('red')", "plt.gca().set_facecolor('red')"),
    "FigureCanvasAgg.set_window_title": (
        "plt.gcf().canvas.set_window_title('x')",
        "plt.gcf().canvas.manager.set_window_title('x')",
    ),
    "FigureCanvasAgg.tostring_rgb": (
        "plt.gcf().canvas.tostring_rgb()",
        "plt.gcf().canvas.draw(); plt.gcf().canvas.buffer_rgba()",
    ),
    "GrouperView.join": (
        "ax, other = plt.subplots(2)[1]; ax.get_shared_x_axes().join(ax, other)",
        "ax, other = plt.subplots(2)[1]; ax.sharex(other); ax.sharey(other)",
    ),
    "Legend.draggable": ("plt.legend([]).draggable()", "plt.legend([]).set_draggable(True)"),
    "Legend.legendHandles": ("plt.legend([]).legendHandles", "plt.legend([]).legend_handles"),
    "QuadContourSet.collections": (
        "plt.contour([[1, 2], [1, 2]]).collections",
        "plt.contour([[1, 2], [1, 2]]).set_alpha(0.5)",
    ),
    "axes(axisbg=)": ("plt.axes(axisbg='red')", "plt.axes(facecolor='red')"),
    "boxplot(labels=)": ("plt.gca().boxplot([1], labels=['a'])", "plt.boxplot([1], tick_labels=['a'])"),
    "gca(projection=)": ("plt.figure().gca(projection='3d')", "plt.figure().add_subplot(projection='3d')"),
    "grid(b=)": ("plt.grid(b=True)", "plt.grid(visible=True)"),
    "hist(normed=)": ("plt.gca().hist([1], normed=True)", "plt.hist([1], density=True)"),
    "savefig(frameon=)": ("plt.savefig(io.BytesIO(), frameon=True)", "plt.savefig(io.BytesIO(), facecolor='red')"),
    "savefig(quality=)": (
        "plt.savefig(io.BytesIO(), format='jpg', quality=90)",
        "plt.savefig(io.BytesIO(), format='jpg', pil_kwargs={'quality': 90})",
    ),
    "stem(use_line_collection=)": ("plt.stem([1], [1], use_line_collection=True)", ""),
    "use(warn=)": ("matplotlib.use('agg', warn=False)", ""),
    "xscale(basex=)": ("plt.xscale('log', basex=2)", "plt.xscale('log', base=2)"),
    "xscale(linthreshx=)": ("plt.xscale('symlog', linthreshx=1)", "plt.xscale('symlog', linthresh=1)"),
    "xscale(nonposx=)": ("plt.xscale('log', nonposx='clip')", "plt.xscale('log', nonpositive='clip')"),
    "yscale(basey=)": ("plt.gca().set_yscale('log', basey=2)", "plt.yscale('log', base=2)"),
    "yscale(linthreshy=)": ("plt.yscale('symlog', linthreshy=1)", "plt.yscale('symlog', linthresh=1)"),
    "yscale(nonposy=)": ("plt.yscale('log', nonposy='clip')", "plt.yscale('log', nonpositive='clip')"),
    **{
        f"the style 'seaborn{kind}'": (f"plt.style.use('seaborn{kind}')", f"plt.style.use('seaborn-v0_8{kind}')")
        for kind in SEABORN_STYLES
    },
    "geopandas.datasets": ("gpd.datasets.get_path('naturalearth_lowres')", "gpd.read_file"),
    "GeoSeries.cascaded_union": ("gdf.geometry.cascaded_union", "gdf.geometry.union_all()"),
    "sjoin(op=)": ("gpd.sjoin(gdf, gdf, op='within')", "gpd.sjoin(gdf, gdf, predicate='within')"),
    "shapely.ops.cascaded_union": ("from shapely.ops import cascaded_union", "shapely.ops.unary_union([Point(0, 0)])"),
    "shapely.geometry.asPoint": ("from shapely.geometry import asPoint", "shapely.geometry.Point([0, 0])"),
    "shapely.geometry.asShape": (
        "shapely.geometry.asShape(gdf.geometry[0])",
        "shapely.geometry.shape(gdf.geometry[0].__geo_interface__)",
    ),
    "Point.almost_equals": (
        "Point(0, 0).almost_equals(Point(0, 0))",
        "Point(0, 0).equals_exact(Point(0, 0), 1e-6)",
    ),
    "STRtree.query_geoms": (
        "shapely.strtree.STRtree([Point(0, 0)]).query_geoms(Point(0, 0))",
        "shapely.strtree.STRtree([Point(0, 0)]).query(Point(0, 0))",
    ),
    "GeometryCollection as a list": ("list(GeometryCollection([Point(0, 0)]))", "GeometryCollection().geoms"),
    "MultiLineString as a list": ("MultiLineString([[(0, 0), (1, 1)]])[0]", "MultiLineString().geoms"),
    "MultiPoint as a list": ("for point in MultiPoint([(0, 0)]): pass", "MultiPoint([(0, 0)]).geoms[0]"),
    "MultiPolygon as a list": ("len(MultiPolygon([box(0, 0, 1, 1)]))", "len(MultiPolygon().geoms)"),
    "Proj.is_latlong": ("pyproj.Proj('epsg:4326').is_latlong()", "pyproj.Proj('epsg:4326').crs.is_geographic"),
    "flowclient.daily_location": ("flowclient.daily_location(date='x')", "flowclient.daily_location_spec"),
    "flowclient.modal_location": ("flowclient.modal_location()", "flowclient.modal_location_spec"),
    "flowclient.modal_location_from_dates": (
        "flowclient.modal_location_from_dates(start_date='x')",
        "flowclient.modal_location_from_dates_spec",
    ),
    "flowclient.radius_of_gyration": ("flowclient.radius_of_gyration()", "flowclient.radius_of_gyration_spec"),
    "flowclient.random_sample": ("flowclient.random_sample()", "flowclient.random_sample_spec"),
    "flowclient.subscriber_degree": ("flowclient.subscriber_degree()", "flowclient.subscriber_degree_spec"),
    "queries without a connection": (
        "flowclient.flows(from_location={}, to_location={})",
        "inspect.signature(flowclient.flows).bind(connection=1, from_location={}, to_location={}, join_type='inner')",
    ),
    "papermill.display": ("papermill.display('x', 1)", "scrapbook.read_notebook"),
    "papermill.read_notebook": ("papermill.read_notebook('x')", "scrapbook.read_notebook"),
    "papermill.read_notebooks": ("papermill.read_notebooks('x')", "scrapbook.read_notebooks"),
    "papermill.record": ("papermill.record('x', 1)", "scrapbook.glue"),
    "IPython.core.display.display": (
        "from IPython.core.display import display",
        "from IPython.display import display",
    ),
    "IPython.core.display.set_matplotlib_formats": (
        "from IPython.core.display import set_matplotlib_formats",
        "matplotlib_inline.backend_inline.set_matplotlib_formats",
    ),
    "IPython.display.set_matplotlib_formats": (
        "IPython.display.set_matplotlib_formats('svg')",
        "matplotlib_inline.backend_inline.set_matplotlib_formats",
    ),
    "IPython.html": ("from IPython.html import widgets", "import ipywidgets"),
    "PIL.Image.ANTIALIAS": ("PIL.Image.ANTIALIAS", "PIL.Image.LANCZOS"),
    "FreeTypeFont.getsize": (
        "PIL.ImageFont.load_default().getsize('x')",
        "PIL.ImageFont.load_default().getbbox('x')",
    ),
    "ImageDraw.textsize": (
        "PIL.ImageDraw.Draw(PIL.Image.new('RGB', (9, 9))).textsize('x')",
        "PIL.ImageDraw.Draw(PIL.Image.new('RGB', (9, 9))).textbbox((0, 0), 'x')",
    ),
    "jinja2.Markup": ("from jinja2 import Markup", "markupsafe.Markup"),
    "jinja2.contextfilter": ("jinja2.contextfilter", "jinja2.pass_context"),
    "jinja2.escape": ("jinja2.escape('x')", "markupsafe.escape('x')"),
    "asyncio.coroutine": ("asyncio.coroutine", ""),
    "collections.Callable": ("collections.Callable", "collections.abc.Callable"),
    "collections.Iterable": ("from collections import Iterable", "from collections.abc import Iterable"),
    "collections.Mapping": ("from collections import Mapping", "from collections.abc import Mapping"),
    "collections.MutableMapping": ("collections.MutableMapping", "collections.abc.MutableMapping"),
    "collections.Sequence": ("collections.Sequence", "collections.abc.Sequence"),
    "inspect.getargspec": ("inspect.getargspec(print)", "inspect.getfullargspec"),
    "time.clock": ("time.clock()", "time.perf_counter()"),
}
"""For each name in the table, code that uses it, and code that uses what replaces it."""

MORE = {
    "df.groupby('a').pad()": "pandas {pandas} no longer has DataFrameGroupBy.pad; use DataFrame.ffill",
    "from matplotlib.cm import get_cmap": (
        "matplotlib {matplotlib} no longer has matplotlib.cm.get_cmap; use plt.get_cmap, or matplotlib.colormaps[name]"
    ),
    "pd.to_datetime('x', errors='ignore')": (
        'pandas {pandas} no longer has errors="ignore"; use errors="coerce", or try and except'
    ),
    "gdf.append(gdf)": "pandas {pandas} no longer has GeoDataFrame.append; use pd.concat([df, other])",
    "gdf.geometry.append(df.a)": "pandas {pandas} no longer has GeoSeries.append; use pd.concat([series, other])",
    "gdf.iteritems()": "pandas {pandas} no longer has GeoDataFrame.iteritems; use DataFrame.items",
    "pd.DataFrame.append(df, df)": "pandas {pandas} no longer has DataFrame.append; use pd.concat([df, other])",
    "from geopandas.datasets import get_path; get_path('naturalearth_lowres')": (
        "geopandas {geopandas} no longer has geopandas.datasets; use gpd.read_file, with a file in the inputs folder"
    ),
    "plt.hist([1], normed=1, histtype='step')": "matplotlib {matplotlib} no longer has hist(normed=); use density=True",
    "df.a.hist(normed=True)": "matplotlib {matplotlib} no longer has hist(normed=); use density=True",
    "df.drop('a', 1)": (
        "pandas {pandas} takes fewer arguments of DataFrame.drop without their names; write them as name=value"
    ),
    "pd.concat([df], 1)": (
        "pandas {pandas} takes fewer arguments of concat without their names; write them as name=value"
    ),
    "pd.read_csv(text(), ',')": (
        "pandas {pandas} takes fewer arguments of read_csv without their names; write them as name=value"
    ),
    "flowclient.get_result(None, {})": (
        "flowclient {flowclient} takes fewer arguments of get_result without their names; write them as name=value"
    ),
}
"""What is recognised in other ways, and what the hint says."""


def execute(code: str, variables: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, variables)  # noqa: S102 - the code is above


def error_of(code: str, variables: dict[str, Any]) -> tuple[str, str]:
    """Return the class and the message of the exception that `code` raises."""
    try:
        execute(code, dict(variables))
    except Exception as error:  # noqa: BLE001 - each has its own
        return type(error).__name__, str(error)
    pytest.fail(f"it still works: {code}")


@pytest.fixture(scope="module")
def namespace() -> Iterator[dict[str, Any]]:
    """Return the variables of `PREAMBLE`."""
    with mpl.rc_context():
        mpl.use("agg")
        variables: dict[str, Any] = {}
        execute(PREAMBLE, variables)
        yield variables


@pytest.fixture(autouse=True)
def figures_are_closed() -> Iterator[None]:
    yield
    plt.close("all")


def test_the_table_is_tested_as_a_whole() -> None:
    names = [name for names in DROPPED.values() for name in names]
    assert sorted(names) == sorted(OLD)


@pytest.mark.parametrize("library", DROPPED)
def test_each_name_is_gone_and_its_error_names_the_library_its_version_and_the_replacement(
    library: str, namespace: dict[str, Any]
) -> None:
    for name, new in DROPPED[library].items():
        old, _ = OLD[name]
        error_class, message = error_of(old, namespace)
        version = platform.python_version() if library == "Python" else metadata.version(library)
        hinted = with_hint(error_class, message, [old]).partition("\n")[0]
        assert f" ({library} {version} no longer has " in hinted, message
        assert hinted.endswith(f"; {f'use {new}' if new else 'leave it out'})"), message


@pytest.mark.parametrize("library", DROPPED)
def test_replacements_work(library: str, namespace: dict[str, Any]) -> None:
    for name in DROPPED[library]:
        execute(OLD[name][1], dict(namespace))


@pytest.mark.parametrize("code", MORE)
def test_names_are_recognised_in_other_forms_of_errors(code: str, namespace: dict[str, Any]) -> None:
    _, message = error_of(code, namespace)
    versions = {name: metadata.version(name) for name in ("flowclient", "geopandas", "matplotlib", "pandas")}
    assert replacement(message, has_own_python=True) == MORE[code].format(**versions)


@pytest.mark.parametrize(
    "message",
    [
        "'DataFrame' object has no attribute 'population'",
        "module 'pandas' has no attribute 'nonsense'",
        "No module named 'pandas_of_ours'",
        "get_data() takes 1 positional argument but 2 were given",
        "'list' object has no attribute 'ix'",
        "",
    ],
)
def test_other_errors_have_no_replacement(message: str) -> None:
    assert replacement(message, has_own_python=True) == ""


def test_version_of_a_library_in_another_python_is_unknown() -> None:
    message = "'Styler' object has no attribute 'hide_index'"
    assert replacement(message, has_own_python=False) == (
        'pandas no longer has Styler.hide_index; use Styler.hide(axis="index")'
    )
