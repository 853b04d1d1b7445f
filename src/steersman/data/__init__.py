"""Episodes on disk: readers and writers of formats, the memory-mapped training cache, windows, splits, statistics.

Imported lazily: reading and converting logs loads no torch.
"""

from steersman.core.lazy import catalogue

__getattr__, __dir__, __all__ = catalogue(
    __name__,
    {
        **dict.fromkeys(["build", "load"], ".building"),
        **dict.fromkeys(["CacheWriter", "cache_bytes"], ".cache"),
        **dict.fromkeys(["Conversion", "convert"], ".conversion"),
        "Dataset": ".dataset",
        **dict.fromkeys(["FORMATS", "read", "write"], ".formats"),
        "Limits": ".isolation",
        **dict.fromkeys(["Column", "Schema"], ".schema"),
        **dict.fromkeys(["Format", "ReadOptions", "Source"], ".source"),
        **dict.fromkeys(["Repaired", "repair"], ".repairing"),
        **dict.fromkeys(["Account", "Resampled", "resample"], ".resampling"),
        **dict.fromkeys(["Columns", "Statistics"], ".statistics"),
        **dict.fromkeys(["Throughput", "measure"], ".throughput"),
    },
)
