"""Episodes on disk: readers and writers of formats, the memory-mapped training cache, windows, splits, statistics."""

from steersman.data.build import build, load
from steersman.data.cache import CacheWriter, cache_bytes
from steersman.data.conversion import Conversion, convert
from steersman.data.dataset import Dataset
from steersman.data.formats import FORMATS, read, write
from steersman.data.source import Format, ReadOptions, Source
from steersman.data.statistics import Columns, Statistics
from steersman.data.throughput import Throughput, measure

__all__ = [
    "FORMATS", "CacheWriter", "Columns", "Conversion", "Dataset", "Format", "ReadOptions", "Source", "Statistics",
    "Throughput", "build", "cache_bytes", "convert", "load", "measure", "read", "write",
]
