from . import report as report
from .report import build as build
