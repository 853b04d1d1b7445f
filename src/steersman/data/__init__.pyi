from .building import build as build, load as load
from .cache import CacheWriter as CacheWriter
from .conversion import Conversion as Conversion, convert as convert
from .dataset import Dataset as Dataset
from .doctor.cameras import Cameras as Cameras, examine_cameras as examine_cameras, pace_for as pace_for
from .formats import FORMATS as FORMATS, read as read, write as write
from .sandbox.host import Limits as Limits
from .lattice import Lattice as Lattice, lattice_for as lattice_for
from .repairing import Repaired as Repaired, repair as repair
from .resampling import Account as Account, Resampled as Resampled, resample as resample
from .schema import Column as Column, Schema as Schema
from .source import Format as Format, ReadOptions as ReadOptions, Source as Source
from .statistics import Columns as Columns, Statistics as Statistics, Tokens as Tokens
