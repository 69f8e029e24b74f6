"""Results of ipar as tables."""

from ipar.get._tables import coords, points, record, uncertainty

__all__ = ["coords", "points", "record", "uncertainty"]
